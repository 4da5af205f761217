// Asks for a token, once a tab.
import { useState } from "preact/hooks";
import { setToken, signInReason } from "../session";
import { Dialog } from "./dialog";

export function SignIn() {
  const [value, setValue] = useState("");
  const submit = (event: Event) => {
    event.preventDefault();
    if (value.trim()) setToken(value);
  };
  return (
    <Dialog title="Sign in" onClose={() => {}}>
      <form onSubmit={submit}>
        <p>{signInReason.value}</p>
        <label class="field">
          Token
          <input
            type="password"
            autocomplete="off"
            autofocus
            spellcheck={false}
            value={value}
            onInput={(event) => setValue(event.currentTarget.value)}
            placeholder="paste a bearer token"
          />
        </label>
        <p class="quiet">
          It stays in this tab and is gone when the tab closes. <code>make dev</code> prints a link that signs in.
        </p>
        <div class="dialog-actions">
          <button class="button primary" type="submit" disabled={!value.trim()}>
            Sign in
          </button>
        </div>
      </form>
    </Dialog>
  );
}
