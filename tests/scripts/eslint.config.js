import js from "@eslint/js";
import globals from "globals";

export default [
  js.configs.recommended,
  {
    languageOptions: { ecmaVersion: 2023, sourceType: "module", globals: { ...globals.browser, STYLES: "readonly", PAGE: "readonly", widget: "readonly", widgets: "readonly" } },
    // Control characters of texts are looked for on purpose.
    rules: { "no-control-regex": "off", eqeqeq: ["error", "always", { null: "ignore" }], "no-var": "error", "prefer-const": ["error", { destructuring: "all" }] },
  },
  { files: ["**/*.test.js"], languageOptions: { globals: globals.node } },
];
