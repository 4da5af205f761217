// The engine's explanation of a step, told so that a person reads causes first and hashes last.
import { useState } from "preact/hooks";
import { ErrorBox, Loading } from "../../../parts/feedback";

const SENTENCES_MAX = 4;

/** Of a long explanation the beginning and how it ended. */
export function Why({ text, error }: { text: readonly string[] | undefined; error: Error | null }) {
  const [isAll, setAll] = useState(false);
  if (error) return <ErrorBox error={error} />;
  if (text === undefined) return <Loading lines={2} />;
  const { sentences, hashes } = arrange(text);
  const isLong = sentences.length + hashes.length > SENTENCES_MAX;
  const begun = sentences.length > SENTENCES_MAX ? [...sentences.slice(0, SENTENCES_MAX - 1), sentences.at(-1)!] : sentences;
  const shown = isAll || !isLong ? [...sentences, ...hashes] : begun;
  return (
    <>
      <ul class="why">
        {shown.map((sentence) => (
          <li key={sentence}>{sentence}</li>
        ))}
      </ul>
      {isLong && (
        <button class="link" type="button" aria-expanded={isAll} onClick={() => setAll(!isAll)}>
          {isAll ? "Show less" : "Show all of it"}
        </button>
      )}
    </>
  );
}

/** A cause of an execution, behind what leads to it. */
const CAUSE = /^(\S+ (?:was|is) executed because |Also, )(.+)$/s;
/** That a file is another one, seen by its hash, size or address; before it where the file is, behind it its origin. */
const OTHER_FILE = /^(its input changed at \/\S*)\/(?:contentHash|sizeBytes|uri): .*?((?:, which comes from [^"]*)?\.)$/s;

/** Changes that can be read come before those of files, which are told once a file; their hashes come last of all. */
function arrange(text: readonly string[]): { sentences: readonly string[]; hashes: readonly string[] } {
  const at = text.findIndex((sentence) => CAUSE.test(sentence));
  const found = text.map((sentence) => CAUSE.exec(sentence)).filter((cause) => cause !== null);
  const causes = found.map(([, , cause]) => cause!);
  const files = causes.filter((cause) => OTHER_FILE.test(cause));
  if (files.length === 0) return { sentences: text, hashes: [] };
  const readable = causes.filter((cause) => !OTHER_FILE.test(cause));
  const told = new Set([...readable, ...files.map((cause) => cause.replace(OTHER_FILE, "$1: another file$2"))]);
  const leads = found.map(([, lead]) => lead!);
  const others = text.filter((sentence) => !CAUSE.test(sentence));
  return {
    sentences: [...others.slice(0, at), ...[...told].map((cause, index) => leads[index]! + cause), ...others.slice(at)],
    hashes: files.map((cause) => leads.at(-1)! + cause),
  };
}
