/** Stands for xmlbuilder2 (see vite.config.ts). */
export const create = (): never => {
  throw new Error("XML formats are not read here.");
};
