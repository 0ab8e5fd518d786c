"""The grid of a prompt matrix (`workbench.prompts.prompt_matrix`): texts, ratings and notes."""
