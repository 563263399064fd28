"""A policy: a causal language model with its tokenizer."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sr_core.config import PolicyConfig
from sr_core.distributed.process_group import ALONE
from sr_core.distributed.sharded_state import full_state, local_rows
from sr_core.errors import PolicyError
from sr_core.policy import lora
from sr_core.policy.linear import linear
from sr_core.policy.prompts import EncodedPrompt, PlainPrompt, encode, end_of_turn, hides_space, plain_prompt
from sr_core.policy.reading import UNREADABLE, read_folder, read_gguf, said
from sr_core.policy.sources import KNOWN, locate
from sr_core.protocols import Prompter, Task

__all__ = ["Policy"]

# What a model multiplies its scores by: a key of its configuration, and the power of that key's value.
SCALINGS = {"logit_scale": 1, "logits_scaling": -1}


class Policy:
    """A decoder-only transformers model and its tokenizer.

    ``model``: any ``AutoModelForCausalLM``; ``tokenizer``: its ``AutoTokenizer``. The engine goes through ``read`` and
    ``logits``, so it works for every architecture that transformers loads and whose own scores these are; ``load``
    refuses the others, a policy made of a model directly is not checked. ``prompt``: whether tasks are a text to
    continue (``completion``) or a question (``chat``); ``auto`` asks where the tokenizer has a chat template.
    ``prompter`` renders tasks; without one their prompts stand as they are. ``ranks``: the processes that the weights
    are sharded among (``sr_core.engine.fsdp``), one as a rule.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        prompt: str = "auto",
        head_dtype: str = "same",
        prompter: Prompter | None = None,
    ) -> None:
        if tokenizer.eos_token_id is None:
            raise PolicyError(
                "a policy's tokenizer must have an end-of-sequence token, this one has none: set eos_token in its "
                "tokenizer_config.json"
            )
        if prompt == "auto":
            prompt = "chat" if tokenizer.chat_template else "completion"
        self.model = model
        self.tokenizer = tokenizer
        self.prompt = prompt
        self.prompter: Prompter = prompter or plain_prompt
        self.head_dtype = head_dtype
        self.ranks = ALONE
        self.eos_id: int = end_of_turn(tokenizer) if prompt == "chat" else tokenizer.eos_token_id
        self.end_ids: list[int] = _end_ids(model, self.eos_id)
        self.pad_id: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.eos_id

        self._before = hides_space(tokenizer)
        self._check_known([self.eos_id], "its end of an answer")

    @classmethod
    def load(cls, config: PolicyConfig | str | Path, *, prompter: Prompter | None = None) -> Policy:
        """Load from a shipped or known name, a local folder (of a model or of adapters to one) or a GGUF file.

        ``prompter``: what renders tasks, made with ``policy.shots`` and ``policy.template``. Never from the network.
        Raises PolicyError when there is no such model, when it cannot be read, or when its scores over the vocabulary
        are not those that ``logits`` computes.
        """
        if not isinstance(config, PolicyConfig):
            config = PolicyConfig(path=str(config))
        source = adapters = locate(config.path)
        base = lora.base_of(adapters)
        if base is not None:
            source = base
        device = config.device if config.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
        if device == "cuda" and not torch.cuda.is_available():
            raise PolicyError("policy.device is 'cuda', and torch sees no CUDA device here: use 'auto' or 'cpu'")
        try:
            read = read_gguf if source.is_file() else read_folder
            model, tokenizer = read(source, getattr(torch, config.dtype))
            # adapters name the model they belong to by this: a known name serves on other machines, too
            model.name_or_path = config.path if config.path in KNOWN else str(source)
            _freeze_what_text_does_not_pass(model)
            if base is not None:
                model = lora.load_adapters(model, adapters)
            elif config.lora_rank:
                model = lora.add_adapters(model, config.lora_rank)
        except UNREADABLE as error:
            raise PolicyError(
                f"policy.path {config.path!r} cannot be loaded ({said(error)}): a file is damaged or not complete, or "
                "the model is not one that this package trains"
            ) from error
        # eval: dropout would make the update's log-probabilities differ from the sampler's
        policy = cls(
            model.to(device).eval(),
            tokenizer,
            prompt=config.prompt,
            head_dtype=config.head_dtype,
            prompter=prompter,
        )
        _check_scores(policy)
        return policy

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self.model.parameters())

    def frozen_copy(self) -> Policy:
        """The same policy as it is now, not trained; weights that this one does not train either are shared."""
        shared = {id(p): p for p in self.model.parameters() if not p.requires_grad}
        model = copy.deepcopy(self.model, shared).requires_grad_(False)
        return Policy(
            model,
            self.tokenizer,
            prompt=self.prompt,
            head_dtype=self.head_dtype,
            prompter=self.prompter,
        )

    def save(self, folder: Path) -> None:
        """Write model and tokenizer in Hugging Face format; of a model with adapters, the adapters alone.

        Of a sharded policy all processes call it, and the first one writes.
        """
        weights = None
        if self.sharded:
            weights = full_state(
                {name: local_rows(p.detach()) for name, p in self.model.named_parameters()}, self.ranks
            )
        if self.ranks.first:
            how = lora.SAVING if hasattr(self.model, "peft_config") else {}
            self.model.save_pretrained(str(folder), state_dict=weights, **how)
            self.tokenizer.save_pretrained(str(folder))

    def prompts(self, tasks: Sequence[Task], stop: Sequence[str] | None = None) -> list[EncodedPrompt]:
        """What the policy continues for each task, and where a completion stops: at ``stop``, where given, in place of
        what the prompter says. Raises PolicyError where a chat template fails."""
        chat = self.prompt == "chat"
        encoded = [encode(self.tokenizer, self.prompter(task, chat=chat), stop) for task in tasks]
        for task, prompt in zip(tasks, encoded, strict=True):
            self._check_known(prompt.ids, f"the prompt of task {task.task_id}")
        return encoded

    def _check_known(self, ids: Sequence[int], what: str) -> None:
        """Some tokenizers have more tokens than their model has embeddings; as a rule no text holds them."""
        most = len(self.model.get_input_embeddings().weight)
        if max(ids) >= most:
            raise PolicyError(
                f"a policy's tokens must be below {most}, the embeddings that its model has; {what} has the token "
                f"{max(ids)}, {self.tokenizer.convert_ids_to_tokens(max(ids))!r}: use the model's own tokenizer, or "
                "resize its embeddings"
            )

    def prompt_ids(self, task: Task | str) -> list[int]:
        """The tokens the policy continues for a task; of a text, as the bare prompt of one."""
        if isinstance(task, str):
            messages = ({"role": "user", "content": task},)
            bare = PlainPrompt(messages=messages) if self.prompt == "chat" else PlainPrompt(text=task)
            return encode(self.tokenizer, bare, None).ids
        return self.prompts([task])[0].ids

    def answers(self, prompts: Sequence[EncodedPrompt], completions: Sequence[Sequence[int]]) -> list[str]:
        """The texts to grade of ``completions``, as many of each prompt, prompt by prompt: each after its prompt's
        prefill and before its stop."""
        each = len(completions) // max(len(prompts), 1)
        return [prompts[i // each].answer(text) for i, text in enumerate(self.decode(completions))]

    def decode(self, completions: Sequence[Sequence[int]]) -> list[str]:
        """Texts of completions given as token ids, as they are but for end-of-sequence and padding, left out."""
        texts: list[str] = self.tokenizer.batch_decode(
            [[*self._before, *(c[:-1] if c and c[-1] in self.end_ids else c)] for c in completions],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,  # it would change code: "f(a , b)"
        )
        return [text[1:] for text in texts] if self._before else texts

    @property
    def context(self) -> int | None:
        """Most tokens that a prompt and its completion may have together: the positions that the model was made for;
        None where it names none. Of rotary positions that change with the longest sequence of a batch (dynamic and
        longrope), those before they change: a sequence would have other scores among longer ones."""
        config = self.model.config.get_text_config()
        rope = getattr(config, "rope_parameters", None) or {}
        changing = [part for part in (rope, *rope.values()) if isinstance(part, dict)]
        found = [p.get("original_max_position_embeddings") for p in changing if p.get("rope_type") == "longrope"]
        return min((m for m in (getattr(config, "max_position_embeddings", None), *found) if m), default=None)

    @property
    def sharded(self) -> bool:
        """Whether this process has only its part of the weights."""
        return self.ranks.count > 1

    @property
    def decoder(self) -> Any:
        """The model below its output layer: token ids to ``last_hidden_state`` (N x T x hidden)."""
        return self.model.get_decoder()

    def read(self, **inputs: Any) -> Any:
        """The decoder's output for ``inputs``; of a sharded policy, with the weights gathered for it."""
        return (self.model.read if self.sharded else self.decoder)(**inputs)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores over the vocabulary (... x V, at least float32) of hidden states (... x hidden).

            z = (W h + b) * scaling;    cap * tanh(z / cap) where the configuration has a ``final_logit_softcapping``

        ``scaling`` is the product of the ``SCALINGS`` that the configuration has (Granite, Cohere). Left out: whatever
        else a model does to its scores.
        """
        head: nn.Module = self.model.get_output_embeddings()
        if self.head_dtype == "float32" and hidden.dtype != torch.float64:
            if not isinstance(head, nn.Linear):
                raise PolicyError(
                    f"policy.head_dtype 'float32' goes with a plain linear output layer, got {type(head).__name__}: "
                    "use 'same'"
                )
            bias = None if head.bias is None else head.bias.float()
            logits = linear(hidden.float(), head.weight.float(), bias)
        else:
            logits = linear(hidden, head.weight, head.bias) if type(head) is nn.Linear else head(hidden)
        logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
        text = self.model.config.get_text_config()
        for key, power in SCALINGS.items():
            value = getattr(text, key, None)
            if isinstance(value, int | float) and value != 1:
                logits = logits * value**power
        cap = getattr(text, "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap


def _end_ids(model: Any, eos_id: int) -> list[int]:
    """The tokens that end an answer: ``eos_id`` first, then what the model's generation_config adds (Qwen, Llama 3 and
    Gemma end an answer with one token and a text with another), of those that the model has embeddings for."""
    stated = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    stated = stated if isinstance(stated, list) else [stated]
    known = range(len(model.get_input_embeddings().weight))
    return list(dict.fromkeys([eos_id, *(i for i in stated if i in known)]))


def _freeze_what_text_does_not_pass(model: Any) -> None:
    """Vision towers and the like have no gradient, and would only take memory for the optimizer's moments."""
    used = {id(p) for part in (model.get_decoder(), model.get_output_embeddings()) for p in part.parameters()}
    for parameter in model.parameters():
        if id(parameter) not in used:
            parameter.requires_grad_(False)


@torch.no_grad()
def _check_scores(policy: Policy) -> None:
    """Raise PolicyError unless ``policy`` scores a few tokens as its model does, up to rounding.

    Scores that are not finite pass: they say nothing of the architecture, and sampling refuses them.
    """
    config = policy.model.config.get_text_config()
    ids = torch.tensor([[i % config.vocab_size for i in range(5)]], device=policy.device)
    own = policy.model(input_ids=ids, use_cache=False).logits
    try:
        ours = policy.logits(policy.read(input_ids=ids, use_cache=False).last_hidden_state)
    except AttributeError as error:
        raise PolicyError(
            f"a policy's model must have a decoder below its output layer, the architecture {config.model_type!r} "
            f"gives none ({error}): use another architecture"
        ) from error
    largest = float(own.abs().max())
    if not math.isfinite(largest):
        return
    # in bfloat16, scaling and capping are rounded too
    tolerance = 1e-4 if own.dtype in (torch.float32, torch.float64) else 2e-2
    apart = float((ours - own).abs().max()) if ours.shape == own.shape else math.inf
    if not apart <= tolerance * largest:
        raise PolicyError(
            f"the scores of a policy must be its model's own, those of the architecture {config.model_type!r} differ "
            f"by {apart:.3g} where the largest is {largest:.3g}: this package does not know what such a model does to "
            f"its scores beyond {', '.join(SCALINGS)} and final_logit_softcapping; use another architecture"
        )
