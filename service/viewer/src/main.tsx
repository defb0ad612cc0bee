import { render } from "preact";
import { App } from "./app";
import "./styles/base.css";
import "./styles/controls.css";
import "./styles/case.css";

render(<App />, document.getElementById("app")!);
