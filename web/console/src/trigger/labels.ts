// Labels as people type them: `team=growth season=summer`.

export function readLabels(text: string): Record<string, string> | Error {
  const labels: Record<string, string> = {};
  for (const each of text.split(/[\s,]+/).filter(Boolean)) {
    const [, key, value] = /^([^=]+)=(.*)$/.exec(each) ?? [];
    if (key === undefined || value === undefined) return new Error(`Write labels as key=value; “${each}” is none.`);
    labels[key] = value;
  }
  return labels;
}
