// The changes that a workflow declares; the chosen one is shown in the graph.
import type { Workflow } from "../../api/types";
import { plural, words } from "../../format";
import { JsonView } from "../../parts/text";
import { hrefWith } from "../../router";

interface Props {
  readonly workflow: Workflow;
  readonly chosen: string | null;
  readonly reach: ReadonlyMap<string, "seed" | "downstream">;
}

export function ChangeRules({ workflow, chosen, reach }: Props) {
  const rules = Object.entries(workflow.changeRequests ?? {});
  return (
    <aside class="rules" aria-label="Change rules">
      <h2>Changes</h2>
      {rules.length === 0 && <p class="quiet">This workflow declares none.</p>}
      <ul>
        {rules.map(([type, rule]) => (
          <li key={type}>
            <a
              class={type === chosen ? "change chosen" : "change"}
              href={hrefWith({ change: type === chosen ? null : type })}
              aria-current={type === chosen ? "true" : undefined}
            >
              <span>
                <strong>{type}</strong>
                <span class="quiet">{rule.description}</span>
                {rule.cacheMode && rule.cacheMode !== "default" && <span class="quiet">cache: {words(rule.cacheMode)}</span>}
                {type === chosen && <span class="rule-reach">reaches {plural(reach.size, "step")} at most</span>}
              </span>
            </a>
          </li>
        ))}
      </ul>
      {workflow.triggerSchema && (
        <details>
          <summary>Schema of the payload</summary>
          <JsonView value={workflow.triggerSchema} label="payload schema" />
        </details>
      )}
    </aside>
  );
}
