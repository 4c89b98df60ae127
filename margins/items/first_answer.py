"""The short answer at the beginning of a generated text: what the base is taken to answer where an item names no old answer."""

from __future__ import annotations

import re

#: Words whose full stop ends no sentence, lower case; so does no single letter's (J. R. R. Tolkien).
ABBREVIATIONS = frozenset("st mr mrs ms dr prof sr jr no vs mt ft gen col capt rev hon nr г ул им".split())
#: What stands before an answer with a colon: text that begins so has its answer later.
LABELS = frozenset(
    "a answer 答 答案 答え 回答 답 정답 ответ réponse antwort respuesta resposta risposta الجواب الإجابة उत्तर".split()
)
_LINE = re.compile(r"[\r\n\u2028\u2029]")
# a stop of a script that writes no space behind it; or a stop, or a mark between clauses, behind which a space stands
_END = re.compile(
    r"[。！？；，：｡」』》】）]|[.!?…؟۔।။៕។།։።](?=[\s\"'”’»)\]]|$)|[,;:،؛](?=[\"'”’»]?(?:\s|$))|\s(?=[(\[–—]|-\s)|—|[（(](?<=[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3].)"
)
# the text goes on with the question's sentence, or ends it
_GOES_ON = re.compile(r"[.,;:!?…。，、；：！？،؛؟]+(?:\s|$)")
# copulas and particles at a sentence's end behind the answer: Japanese, Korean, Thai, Turkish; Hindi, Urdu and Persian
_COPULA = re.compile(
    r"(?<=\w)(?:でした|です|であった|である|だった)$|(?<=\w)(?<![\u3040-\u309f])だ$"
    r"|(?<=[\uac00-\ud7a3])(?:입니다|이었습니다|였습니다|이에요|예요)$|(?<=[\uac00-\ud7a3]{2})이다$|(?<=[\u0e01-\u0e4e])(?:ครับ|ค่ะ)$"
    r"|(?<=\w)['’][dt][ıiuü]r$|(?<=\S) (?:है|हैं|था|थी|थे|ہے|ہیں|است|بود)$"
)
_BRACKETS = "\"'“”‘’«»„*_`()[]「」『』《》〈〉【】（） \t\u00a0\u3000"


def first_answer(text: str) -> str:
    """The text up to its first line break, end of a sentence or end of a clause, without white space, quotes or stops around.

    White space before the answer is skipped, line breaks, too. A clause ends at a comma, semicolon or colon before a space,
    and before a bracket or a dash: the old answer to "The capital of France is" is "Paris" where the text goes on "Paris,
    which is also ...". With the rest of the sentence its log-probability would measure how the text goes on, and no
    answer in words would repeat it. So it would with a copula behind the answer (パリです). A full stop
    after a single letter or an abbreviation ends nothing. Empty where the text has no such answer, or begins with a comma,
    a stop or a label (Answer:): the model then does not answer first.
    """
    text = _LINE.split(text.strip(), maxsplit=1)[0].lstrip(_BRACKETS)
    if _GOES_ON.match(text):
        return ""
    for end in _END.finditer(text):
        before = text[: end.start()]
        word = re.search(r"(\w+)$", before)
        if end.group() == "." and word and (_initial(word.group()) or word.group().lower() in ABBREVIATIONS):
            continue
        if end.group() == "." and before.strip().isdecimal():  # the number of a list's first entry
            continue
        if end.group() in (":", "：") and before.strip().lower() in LABELS:
            return ""
        if before.strip():
            text = before
            break
    text = text.strip(_BRACKETS).rstrip(".!?…。！？,;:، ")
    return _COPULA.sub("", text).strip(_BRACKETS)


def _initial(word: str) -> bool:
    return len(word) == 1 and word.isalpha() and word.isupper()
