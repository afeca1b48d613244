"""What `nemotron doctor` says about recipes: which there are, and what is wrong with those that cannot be used."""

from __future__ import annotations

from nemo_runspec.checks import Check, failed, passed, warned
from nemo_runspec.recipe_command import config_names
from nemo_runspec.recipe_scripts import RecipeScript
from nemotron.cli.recipes import find_recipes, recipe_folders


def check_recipes() -> list[Check]:
    """Each recipe with its commands; each script that makes none, and each without its default config."""
    found = find_recipes()
    by_recipe: dict[str, list[RecipeScript]] = {}
    for script in found.by_command.values():
        by_recipe.setdefault(script.recipe, []).append(script)
    checks = [passed(f"recipe {name}", _describe(scripts)) for name, scripts in by_recipe.items()]
    checks += [warning for script in found.by_command.values() if (warning := _check_configs(script))]
    checks += [failed("recipe", str(problem)) for problem in found.problems.values()]
    if not by_recipe:
        return [*checks, failed("recipes", f"none in {', '.join(map(str, recipe_folders()))}", "install it again")]
    return checks


def _describe(scripts: list[RecipeScript]) -> str:
    return f"{', '.join(' '.join(script.command[1:]) for script in scripts)} ({scripts[0].folder})"


def _check_configs(script: RecipeScript) -> Check | None:
    names = config_names(script.runspec.config_dir)
    if script.runspec.config.default in names:
        return None
    said = f"no config {script.runspec.config.default!r} in {script.runspec.config_dir}"
    return warned(f"recipe {' '.join(script.command)}", said, f"have: {', '.join(names) or 'none'}; write it")
