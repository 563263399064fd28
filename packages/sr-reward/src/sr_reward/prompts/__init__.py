"""How a task is put to a language model: as a text to continue or as a conversation, by the rules of its format."""

from sr_reward.prompts.render import Prompt, Prompter, render
from sr_reward.prompts.templates import TEMPLATES, Template, load_template, template_for

__all__ = ["TEMPLATES", "Prompt", "Prompter", "Template", "load_template", "render", "template_for"]
