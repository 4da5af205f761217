// The row of filters above the list of runs.
import { useRef } from "preact/hooks";
import { listWorkflows } from "../../api/workflows";
import { useShortcuts } from "../../keyboard";
import { usePolled } from "../../live/poll";
import { DraftInput } from "../../parts/draft_input";
import { Icon } from "../../parts/icons";
import { place, setQuery } from "../../router";
import { FILTERS, isFiltered, SPANS, STATUSES, statusesOf, TRIGGERS } from "./filters";

export function FilterBar() {
  const address = place.value.query;
  const labels = useRef<HTMLInputElement>(null);
  const workflows = usePolled("workflow names", 0, (abort) => listWorkflows({ pageSize: 500 }, abort));
  const names = workflows.value.value?.workflows.map((each) => each.workflowName) ?? [];
  const chosen = statusesOf(address);
  const set = (name: string, value: string | null) => setQuery({ [name]: value, page: null });
  const toggle = (status: string) => {
    const next = chosen.includes(status) ? chosen.filter((each) => each !== status) : [...chosen, status];
    set("status", next.join(",") || null);
  };
  const clear = () => setQuery(Object.fromEntries([...FILTERS, "page"].map((name) => [name, null])));
  useShortcuts([{ keys: "/", does: "Filter by label", run: () => labels.current?.focus() }]);
  return (
    <form class="filters" role="search" aria-label="Filters" onSubmit={(event) => event.preventDefault()}>
      <div class="toggles" role="group" aria-label="Status">
        {STATUSES.map((status) => (
          <button
            key={status}
            type="button"
            class={`toggle s-${status}`}
            aria-pressed={chosen.includes(status)}
            onClick={() => toggle(status)}
          >
            <Icon name={status} />
            {status}
          </button>
        ))}
      </div>
      <Choice label="Workflow" all="All workflows" value={address.get("workflow")} onChange={(to) => set("workflow", to)}>
        {withChosen(names, address.get("workflow")).map((name) => [name, name])}
      </Choice>
      <Choice label="Trigger" all="All triggers" value={address.get("trigger")} onChange={(to) => set("trigger", to)}>
        {TRIGGERS.map((name) => [name, name])}
      </Choice>
      <Choice label="Time" all="Any time" value={address.get("since")} onChange={(to) => set("since", to)}>
        {Object.entries(SPANS).map(([word, span]) => [word, span.name])}
      </Choice>
      <div class="search">
        <Icon name="search" />
        <DraftInput
          input={labels}
          label="Labels, written key=value"
          placeholder="label=value"
          value={address.get("labels") ?? ""}
          onCommit={(text) => set("labels", text || null)}
        />
      </div>
      {isFiltered(address) && (
        <button class="button" type="button" onClick={clear}>
          <Icon name="close" /> Clear
        </button>
      )}
    </form>
  );
}

interface ChoiceProps {
  readonly label: string;
  readonly all: string;
  readonly value: string | null;
  readonly onChange: (to: string | null) => void;
  readonly children: readonly (readonly [string, string])[];
}

function Choice({ label, all, value, onChange, children }: ChoiceProps) {
  return (
    <select aria-label={label} value={value ?? ""} onChange={(event) => onChange(event.currentTarget.value || null)}>
      <option value="">{all}</option>
      {children.map(([word, name]) => (
        <option key={word} value={word}>
          {name}
        </option>
      ))}
    </select>
  );
}

/** A workflow of a shared address can be one that is not in the list. */
function withChosen(names: readonly string[], chosen: string | null): readonly string[] {
  return chosen === null || names.includes(chosen) ? names : [...names, chosen];
}
