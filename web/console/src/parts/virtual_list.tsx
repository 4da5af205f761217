// A list of any length of which only what can be seen is in the document.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

interface Props {
  readonly count: number;
  readonly rowHeight: number;
  readonly label: string;
  readonly renderRow: (index: number) => ComponentChildren;
  /** This row is kept in sight, -1 for none. */
  readonly inSight?: number;
  /** Stays at the end while rows are added, unless the reader scrolled away from it. */
  readonly followsEnd?: boolean;
  readonly head?: ComponentChildren;
}

const BEYOND = 8;
const AT_END_PX = 40;

export function VirtualList({ count, rowHeight, label, renderRow, inSight = -1, followsEnd = false, head }: Props) {
  const area = useRef<HTMLDivElement>(null);
  const isAtEnd = useRef(true);
  const [view, setView] = useState({ top: 0, height: 800 });

  const look = () => {
    if (area.current === null) return; // observers may report once more after the list is gone
    const { scrollTop, clientHeight, scrollHeight } = area.current;
    isAtEnd.current = scrollHeight - scrollTop - clientHeight < AT_END_PX;
    setView((before) =>
      before.top === scrollTop && before.height === clientHeight ? before : { top: scrollTop, height: clientHeight },
    );
  };
  useEffect(() => {
    const observer = new ResizeObserver(look);
    observer.observe(area.current!);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    if (followsEnd && isAtEnd.current) area.current!.scrollTop = area.current!.scrollHeight;
  }, [count, followsEnd]);
  useEffect(() => {
    if (inSight < 0) return;
    const { scrollTop, clientHeight } = area.current!;
    const top = inSight * rowHeight;
    if (top < scrollTop) area.current!.scrollTop = top;
    else if (top + 2 * rowHeight > scrollTop + clientHeight) area.current!.scrollTop = top + 2 * rowHeight - clientHeight;
  }, [inSight]);

  const first = Math.max(0, Math.floor(view.top / rowHeight) - BEYOND);
  const last = Math.min(count, Math.ceil((view.top + view.height) / rowHeight) + BEYOND);
  return (
    <div class="virtual" ref={area} onScroll={look} role="region" aria-label={label} tabIndex={0}>
      {head}
      <div class="virtual-space" style={{ height: `${count * rowHeight}px` }}>
        <div class="virtual-rows" style={{ transform: `translateY(${first * rowHeight}px)` }}>
          {Array.from({ length: Math.max(0, last - first) }, (_, index) => renderRow(first + index))}
        </div>
      </div>
    </div>
  );
}
