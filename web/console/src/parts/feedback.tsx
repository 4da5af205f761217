// What the reader is told when something is wrong, empty, or still on its way.
import type { ComponentChildren } from "preact";
import { ApiError } from "../api/client";

interface Violation {
  readonly field: string;
  readonly description: string;
}

/** A refusal in the engine's own words, with its stable reason and every violation. */
export function ErrorBox({ error, again }: { error: Error; again?: () => void }) {
  const violations = error instanceof ApiError ? ((error.details["violations"] ?? []) as unknown as Violation[]) : [];
  return (
    <div class="error-box" role="alert">
      <div>
        {error instanceof ApiError && <code class="reason">{error.code}</code>}
        <span>{error.message}</span>
      </div>
      {violations.length > 0 && (
        <ul>
          {violations.map((each) => (
            <li key={each.field + each.description}>
              <code>{each.field}</code> {each.description}
            </li>
          ))}
        </ul>
      )}
      {again && (
        <button class="button" type="button" onClick={again}>
          Try again
        </button>
      )}
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

/** Lines where content will be; for screen readers one word. */
export function Loading({ lines = 6 }: { lines?: number }) {
  return (
    <div class="loading" role="status" aria-label="Loading">
      {Array.from({ length: lines }, (_, index) => (
        <div key={index} class="skeleton" />
      ))}
    </div>
  );
}
