"""The chat template: what a conversation looks like as tokens, and which of them the model learns to produce.

<|user|>question<|end|><|assistant|>answer<|end|>
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic_core import from_json  # unlike json.loads, refuses half a surrogate pair, which cannot be encoded
from tokenizers import Tokenizer

from nemo_runspec.errors import DataError
from nemotron.recipes.nano3.settings import Settings
from nemotron.recipes.nano3.text_sources import read_text
from nemotron.recipes.nano3.tokenizer import ASSISTANT, END_OF_TURN, USER, special_id

_ROLE_TOKENS = {"user": USER, "assistant": ASSISTANT}


class Message(Settings):
    """One turn."""

    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True, kw_only=True)
class EncodedChat:
    """Token ids; `loss_mask` is 1 where the token is to be learnt: in the assistant's turns and their end."""

    tokens: list[int]
    loss_mask: list[int]


def load_chats(path: Path) -> list[list[Message]]:
    """The conversations of a JSON-lines file, `{"messages": [{"role": "user", "content": "…"}, …]}` a line.

    Raises:
        DataError: as `read_text`, or a line that is no conversation with an answer (with its number).
    """
    # Not splitlines(): JSON may have line separators other than \n inside its strings.
    lines = [line for line in enumerate(read_text(path).split("\n"), start=1) if line[1].strip()]
    return [_parse_chat(line, origin=f"{path}:{number}") for number, line in lines]


def _parse_chat(line: str, *, origin: str) -> list[Message]:
    try:
        messages = [Message.model_validate(message) for message in from_json(line)["messages"]]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f'{origin}: not {{"messages": [{{"role": "user" or "assistant", "content": text}}, …]}}: {line[:80]!r}'
        ) from error
    if not any(message.role == "assistant" for message in messages):
        raise DataError(f"{origin}: no assistant message, nothing to learn: {line[:80]!r}; add one or drop the line")
    return messages


def encode_chat(messages: Sequence[Message], tokenizer: Tokenizer) -> EncodedChat:
    """A whole conversation. Text that spells a special token is encoded as plain text."""
    tokens: list[int] = []
    loss_mask: list[int] = []
    for message in messages:
        learnt = int(message.role == "assistant")
        body = [*encode_plain(message.content, tokenizer), special_id(tokenizer, END_OF_TURN)]
        tokens += [special_id(tokenizer, _ROLE_TOKENS[message.role]), *body]
        loss_mask += [0, *[learnt] * len(body)]
    return EncodedChat(tokens=tokens, loss_mask=loss_mask)


def encode_prompt(question: str, tokenizer: Tokenizer) -> list[int]:
    """A question, up to where the assistant's answer begins."""
    encoded = encode_chat([Message(role="user", content=question)], tokenizer)
    return [*encoded.tokens, special_id(tokenizer, ASSISTANT)]


def encode_plain(text: str, tokenizer: Tokenizer) -> list[int]:
    """Token ids of text, in which no special token is recognised, so that data cannot forge a turn."""
    tokenizer.encode_special_tokens = True
    return list(tokenizer.encode(text, add_special_tokens=False).ids)
