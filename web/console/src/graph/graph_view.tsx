// Shows a layered graph that can be scrolled, dragged and zoomed; what a node looks like is the caller's.
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { useShortcuts } from "../keyboard";
import { Loading } from "../parts/feedback";
import { Icon } from "../parts/icons";
import { layOut, NODE_HEIGHT, NODE_WIDTH, type GraphNode, type Layout, type PlacedEdge } from "./layout";

interface Props {
  /** Another list is laid out anew; what changes while a run runs belongs into `renderNode`. */
  readonly nodes: readonly GraphNode[];
  readonly label: string;
  readonly selected: string | null;
  readonly renderNode: (id: string) => ComponentChildren;
  readonly edgeClass?: (edge: PlacedEdge) => string;
}

const ZOOM_STEP = 1.2;
const ZOOM_MIN = 0.15;
const ZOOM_FIRST_MIN = 0.62; // below, titles are hard to read
const ZOOM_MAX = 2;

export function GraphView({ nodes, label, selected, renderNode, edgeClass }: Props) {
  const [layout, setLayout] = useState<Layout | null>(null);
  const [zoom, setZoom] = useState(1);
  const area = useRef<HTMLDivElement>(null);
  const isFitted = useRef(false);
  useEffect(() => {
    let isCurrent = true;
    void layOut(nodes).then((done) => isCurrent && setLayout(done));
    return () => {
      isCurrent = false;
    };
  }, [nodes]);

  const drag = useMemo(() => dragging(area), []);
  const fit = () => setZoom(fitting(layout, area.current));
  const zoomBy = (factor: number) => setZoom((before) => Math.max(ZOOM_MIN, Math.min(ZOOM_MAX, before * factor)));
  useLayoutEffect(() => {
    if (layout === null || isFitted.current) return;
    isFitted.current = true;
    setZoom(Math.max(ZOOM_FIRST_MIN, fitting(layout, area.current)));
  }, [layout]);
  useEffect(() => {
    area.current?.querySelector("[aria-pressed=true]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [selected, layout]);
  useShortcuts([
    { keys: "+", does: "Zoom in", run: () => zoomBy(ZOOM_STEP) },
    { keys: "-", does: "Zoom out", run: () => zoomBy(1 / ZOOM_STEP) },
    { keys: "0", does: "Show the whole graph", run: fit },
  ]);

  if (layout === null) return <Loading />;
  return (
    <div class="graph">
      <div class="graph-area" ref={area} role="group" aria-label={label} {...drag} onWheel={wheel(zoomBy)}>
        <div
          class="graph-space"
          style={{ width: `${layout.width * zoom}px`, height: `${layout.height * zoom}px` }}
        >
          <div
            class="graph-canvas"
            style={{ width: `${layout.width}px`, height: `${layout.height}px`, transform: `scale(${zoom})` }}
          >
            <svg width={layout.width} height={layout.height} aria-hidden="true">
              {layout.edges.map((edge) => (
                <Edge key={`${edge.from}>${edge.to}`} edge={edge} selected={selected} edgeClass={edgeClass} />
              ))}
            </svg>
            {layout.nodes.map(({ id, x, y }) => (
              <div
                key={id}
                class="graph-node"
                style={{ left: `${x}px`, top: `${y}px`, width: `${NODE_WIDTH}px`, height: `${NODE_HEIGHT}px` }}
              >
                {renderNode(id)}
              </div>
            ))}
          </div>
        </div>
      </div>
      <div class="graph-tools">
        <button class="icon-button" type="button" aria-label="Zoom in" title="Zoom in (+)" onClick={() => zoomBy(ZOOM_STEP)}>
          <Icon name="plus" />
        </button>
        <button class="icon-button" type="button" aria-label="Zoom out" title="Zoom out (-)" onClick={() => zoomBy(1 / ZOOM_STEP)}>
          <Icon name="minus" />
        </button>
        <button class="icon-button" type="button" aria-label="Show the whole graph" title="Whole graph (0)" onClick={fit}>
          <Icon name="fit" />
        </button>
      </div>
    </div>
  );
}

interface EdgeProps {
  readonly edge: PlacedEdge;
  readonly selected: string | null;
  readonly edgeClass: ((edge: PlacedEdge) => string) | undefined;
}

/** A component of its own, so that a step that changes draws its own edges only. */
function Edge({ edge, selected, edgeClass }: EdgeProps) {
  const isNear = selected !== null && (edge.from === selected || edge.to === selected);
  return <path class={`edge ${isNear ? "near" : ""} ${edgeClass?.(edge) ?? ""}`} d={edge.path} />;
}

function fitting(layout: Layout | null, area: HTMLElement | null): number {
  if (layout === null || area === null || layout.width === 0) return 1;
  return Math.max(ZOOM_MIN, Math.min(1, area.clientWidth / layout.width, area.clientHeight / layout.height));
}

/** Wheel scrolls, as everywhere; with the control key, and by pinching, it zooms. */
function wheel(zoomBy: (factor: number) => void) {
  return (event: WheelEvent) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY / 300));
  };
}

/** Dragging the ground moves the view. */
function dragging(area: { readonly current: HTMLElement | null }) {
  let held: { x: number; y: number } | null = null;
  return {
    onPointerDown: (event: PointerEvent) => {
      if (event.button === 0 && !(event.target as Element).closest("button, a")) held = { x: event.clientX, y: event.clientY };
    },
    onPointerMove: (event: PointerEvent) => {
      if (held === null || event.buttons === 0) return;
      area.current!.scrollBy(held.x - event.clientX, held.y - event.clientY);
      held = { x: event.clientX, y: event.clientY };
    },
    onPointerUp: () => {
      held = null;
    },
  };
}
