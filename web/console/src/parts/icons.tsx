// The console's own small set of pictures, drawn on a 16 × 16 grid.

const PATHS = {
  queued: "M8 4.5V8l2.2 1.6M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0Z",
  pending: "M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0Z",
  ready: "M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0ZM6.5 5.5 10.5 8l-4 2.5Z",
  running: "M14 8a6 6 0 1 1-3.5-5.5",
  completed: "M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0ZM5.4 8.2l1.8 1.8 3.4-3.8",
  skipped: "M3 8a5 5 0 0 1 8.7-3.4L13 6M13 3v3h-3M13 8a5 5 0 0 1-8.7 3.4L3 10M3 13v-3h3",
  failed: "M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0ZM6 6l4 4M10 6l-4 4",
  cancelled: "M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0ZM4 12l8-8",
  cache: "M8.8 2 4 9h4l-.8 5L12 7H8Z",
  chevron: "M6 4l4 4-4 4",
  close: "M4 4l8 8M12 4l-8 8",
  copy: "M6 6h7v7H6ZM3 10V3h7",
  check: "M3.5 8.5 6.5 11.5 12.5 5",
  search: "M11 7A4 4 0 1 1 3 7a4 4 0 0 1 8 0ZM10 10l3.5 3.5",
  sun: "M11 8a3 3 0 1 1-6 0 3 3 0 0 1 6 0ZM8 1.5v1M8 13.5v1M1.5 8h1M13.5 8h1M3.4 3.4l.7.7M11.9 11.9l.7.7M3.4 12.6l.7-.7M11.9 4.1l.7-.7",
  moon: "M13 9.5A5.5 5.5 0 0 1 6.5 3a5.5 5.5 0 1 0 6.5 6.5Z",
  system: "M2 3h12v8H2ZM6 14h4M8 11v3",
  keyboard: "M1.5 4h13v8h-13ZM4 6.5h.01M6.7 6.5h.01M9.3 6.5h.01M12 6.5h.01M5 9.5h6",
  signout: "M9 3H3v10h6M7 8h7M11.5 5.5 14 8l-2.5 2.5",
  update: "M3 8a5 5 0 0 1 9-3l1 1M13 3v3h-3M8 5.5V8.5l2 1",
  retry: "M13 8a5 5 0 1 1-1.5-3.6L13 6M13 3v3h-3",
  stop: "M4 4h8v8H4Z",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  fit: "M2.5 6V2.5H6M10 2.5h3.5V6M13.5 10v3.5H10M6 13.5H2.5V10",
  file: "M4 2h5l3 3v9H4ZM9 2v3h3",
  external: "M7 3H3v10h10V9M9.5 3H13v3.5M13 3 7.5 8.5",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, class: extra = "" }: { name: IconName; class?: string }) {
  return (
    <svg class={`icon icon-${name} ${extra}`} viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
