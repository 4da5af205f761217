// The drawer of a step's definition.
import type { ComponentChildren } from "preact";
import type { StepDefinition } from "../../api/types";
import { duration } from "../../format";
import { Icon } from "../../parts/icons";
import { Copy, JsonView } from "../../parts/text";
import { hrefWith } from "../../router";

export function StepDefinitionDrawer({ definition, onClose }: { definition: StepDefinition; onClose: () => void }) {
  const { cachePolicy: cache, retryPolicy: retry } = definition;
  const rows: [string, ComponentChildren][] = [
    ["Skill", <code>{definition.skillId}</code>],
    ["Depends on", definition.dependsOn && definition.dependsOn.length > 0 && <Links ids={definition.dependsOn} />],
    ["Timeout", definition.timeout],
    ["Cache", cache && (cache.enabled ? [cache.scope, cache.hotTtl && `hot for ${cache.hotTtl}`].filter(Boolean).join(", ") : "off")],
    ["Attempts", retry && `${retry.maxAttempts}, ${duration(retry.backoffMs)} apart and growing`],
  ];
  return (
    <aside class="drawer" aria-label={`Step ${definition.stepId}`}>
      <header>
        <div>
          <h2>{definition.stepId}</h2>
          <Copy text={definition.stepId} what="the step's id" />
        </div>
        <button class="icon-button" type="button" aria-label="Close the step" title="Close (Escape)" onClick={onClose}>
          <Icon name="close" />
        </button>
      </header>
      {definition.description && <p>{definition.description}</p>}
      <dl class="facts">
        {rows
          .filter(([, value]) => value)
          .map(([name, value]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </div>
          ))}
      </dl>
      <section>
        <h3>Input selector</h3>
        <JsonView value={definition.inputSelector} label="input selector" />
      </section>
    </aside>
  );
}

function Links({ ids }: { ids: readonly string[] }) {
  return (
    <span class="step-links">
      {ids.map((id) => (
        <a key={id} href={hrefWith({ step: id })}>
          {id}
        </a>
      ))}
    </span>
  );
}
