// A modal dialog: the browser's own, which keeps the focus inside and closes on Escape.
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { Icon } from "./icons";

interface Props {
  readonly title: string;
  readonly onClose: () => void;
  /** Room for a form; a click beside it does not close it, so that nothing written is lost. */
  readonly wide?: boolean;
  readonly children: ComponentChildren;
}

/** Shown while it is rendered; then the focus is where it was before. */
export function Dialog({ title, onClose, wide = false, children }: Props) {
  const element = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => {
    const dialog = element.current!; // the reference is gone when this ends
    dialog.showModal();
    return () => dialog.close();
  }, []);
  return (
    <dialog
      ref={element}
      class={wide ? "dialog wide" : "dialog"}
      aria-label={title}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onPointerDown={(event) => !wide && event.target === element.current && onClose()}
    >
      <div class="dialog-body">
        <header>
          <h2>{title}</h2>
          <button class="icon-button" type="button" aria-label="Close" onClick={onClose}>
            <Icon name="close" />
          </button>
        </header>
        {children}
      </div>
    </dialog>
  );
}
