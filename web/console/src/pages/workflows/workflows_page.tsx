// Workflows.
import { Empty } from "../../parts/feedback";

export function WorkflowsPage() {
  return <Empty title="Workflows" />;
}
