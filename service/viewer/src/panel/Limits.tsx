/** What the model was not made for. */

import type { Analysis } from "../api/types";
import { useModel } from "./model";
import { Pending } from "./Pending";

export function Limits({ analysis }: { analysis: Analysis }) {
  const model = useModel(analysis.model.name);
  return (
    <div class="part" data-testid="limits">
      <h3>Limits of use</h3>
      <Pending of={model} lines={6}>
        {(facts) => (
          <>
            <ul class="limits">
              {facts.limits.map((text) => (
                <li key={text}>{text}</li>
              ))}
            </ul>
            {facts.calibration && <p class="quiet">Calibration: {facts.calibration}.</p>}
          </>
        )}
      </Pending>
    </div>
  );
}
