// Begins: takes the token out of the address, applies the theme, and shows the application.
import { render } from "preact";
import "./styles/index.css";
import { App } from "./app";
import { listenToKeys } from "./keyboard";
import { takeTokenFromAddress } from "./session";
import { applyTheme } from "./theme";

takeTokenFromAddress();
applyTheme();
listenToKeys();
render(<App />, document.getElementById("app")!);
