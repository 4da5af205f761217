// The queue by skill.
import type { QueueDepth, QueueDepths } from "../../api/queue";
import { count, duration } from "../../format";
import { ORDER, STATES } from "./states";

interface Props {
  readonly skills: readonly { readonly skillId: string; readonly depths: QueueDepths }[];
}

export function SkillTable({ skills }: Props) {
  return (
    <section class="panel">
      <h2 class="panel-title">By skill</h2>
      <div class="table-scroll">
        <table class="skills">
          <thead>
            <tr>
              <th>Skill</th>
              {ORDER.map((state) => (
                <th key={state} class="right" title={STATES[state].means}>
                  {STATES[state].name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {skills.map(({ skillId, depths }) => (
              <tr key={skillId} data-skill={skillId}>
                <td class="mono">{skillId}</td>
                {ORDER.map((state) => (
                  <td key={state} class="right">
                    <Depth depth={depths[state]} look={STATES[state].look} />
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Depth({ depth, look }: { depth: QueueDepth; look: string }) {
  if (depth.steps === 0) return <span class="quiet">–</span>;
  return (
    <span class={`depth number ${look}`}>
      <strong>{count(depth.steps)}</strong> <span class="quiet">{duration(depth.oldestAgeMs)}</span>
    </span>
  );
}
