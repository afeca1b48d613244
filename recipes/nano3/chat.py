"""The chat template: what a conversation looks like as tokens, and which of them the model learns to produce.

    <|user|>question<|end|><|assistant|>answer<|end|>
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tokenizers import Tokenizer

from nemotron.recipes.nano3.settings import Settings
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
