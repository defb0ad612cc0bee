/** The list of keyboard shortcuts that work on this page. */

import { shortcuts, written } from "../shortcuts";
import { Dialog } from "./dialog";

export function Help(props: { onClose: () => void }) {
  const groups = Map.groupBy(shortcuts(), (one) => one.group);
  return (
    <Dialog title="Keyboard shortcuts" onClose={props.onClose} wide>
      <div class="columns">
        {[...groups].map(([group, all]) => (
          <section key={group}>
            <h3>{group}</h3>
            <dl class="keys">
              {all.map((one) => (
                <div key={one.keys.join()}>
                  <dt>
                    {one.keys.map((key) => (
                      <kbd key={key}>{written(key)}</kbd>
                    ))}
                  </dt>
                  <dd>{one.what}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
      <p class="quiet">
        How to read the maps: <a href="/docs">documentation of this service</a>.
      </p>
    </Dialog>
  );
}
