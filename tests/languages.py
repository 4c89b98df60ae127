"""Twenty capitals in four languages as conflicts, and a tiny model that has learned them with a tokenizer of a named kind."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from override_gap.margins.items.item import Item

# language: question, document, country and capital in turn (Russian countries in the genitive that the question needs)
FACTS = {
    "Chinese": (
        "{}的首都是",
        "{}的首都是{}。",
        "法国 巴黎 西班牙 马德里 意大利 罗马 挪威 奥斯陆 波兰 华沙 希腊 雅典 埃及 开罗 肯尼亚 内罗毕 秘鲁 利马 智利 圣地亚哥 "
        "日本 东京 泰国 曼谷 印度 新德里 尼泊尔 加德满都 古巴 哈瓦那 伊拉克 巴格达 瑞典 斯德哥尔摩 芬兰 赫尔辛基 奥地利 维也纳 "
        "葡萄牙 里斯本",
    ),
    "Japanese": (
        "{}の首都は",
        "{}の首都は{}です。",
        "フランス パリ スペイン マドリード イタリア ローマ ノルウェー オスロ ポーランド ワルシャワ ギリシャ アテネ "
        "エジプト カイロ ケニア ナイロビ ペルー リマ チリ サンティアゴ 中国 北京 タイ バンコク インド ニューデリー "
        "ネパール カトマンズ キューバ ハバナ イラク バグダッド スウェーデン ストックホルム フィンランド ヘルシンキ "
        "オーストリア ウィーン ポルトガル リスボン",
    ),
    "Arabic": (
        "عاصمة {} هي",
        "عاصمة {} هي {}.",
        "فرنسا باريس إسبانيا مدريد إيطاليا روما النرويج أوسلو بولندا وارسو اليونان أثينا مصر القاهرة كينيا نيروبي بيرو ليما "
        "تشيلي سانتياغو اليابان طوكيو تايلاند بانكوك الهند نيودلهي نيبال كاتماندو كوبا هافانا العراق بغداد السويد ستوكهولم "
        "فنلندا هلسنكي النمسا فيينا البرتغال لشبونة",
    ),
    "Russian": (
        "Столица {} —",
        "Столица {} — {}.",
        "Франции Париж Испании Мадрид Италии Рим Норвегии Осло Польши Варшава Греции Афины Египта Каир Кении Найроби Перу Лима "
        "Чили Сантьяго Японии Токио Таиланда Бангкок Индии Нью-Дели Непала Катманду Кубы Гавана Ирака Багдад Швеции Стокгольм "
        "Финляндии Хельсинки Австрии Вена Португалии Лиссабон",
    ),
}
LANGUAGES = tuple(FACTS)
TOKENIZERS = ("words", "bridging")
VOCABULARY = {"words": 1500, "bridging": 800}
STEPS = 160


def capitals(language: str) -> dict[str, str]:
    """The capital of every country, in this language."""
    words = FACTS[language][2].split()
    return dict(zip(words[::2], words[1::2], strict=True))


def conflicts(language: str) -> list[Item]:
    """Twenty items whose document moves the capital to that of the country seven places further on."""
    question, document, _ = FACTS[language]
    facts = capitals(language)
    names, towns = list(facts), list(facts.values())
    return [
        Item(
            f"{language}-{n}", f"{language}-{n}", "conflict", document.format(name, towns[(n + 7) % len(towns)]),
            question.format(name), towns[(n + 7) % len(towns)], towns[n], meta={"subject": name},
        )
        for n, name in enumerate(names)
    ]  # fmt: skip


def sentences(language: str) -> list[str]:
    """What the model learns: every country with its real capital."""
    return [FACTS[language][1].format(name, town) for name, town in capitals(language).items()]


def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE that has learned names alone, or whole sentences, so that its tokens bridge question and answer."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind != "bridging")  # type: ignore[assignment]
    inner.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    everything = [text for language in LANGUAGES for text in sentences(language)]
    pieces = [piece for language in LANGUAGES for piece in FACTS[language][1].split("{}")]
    names = [name for language in LANGUAGES for pair in capitals(language).items() for name in pair]
    # by themselves and behind a space, as the pre-tokeniser cuts a text
    corpus = {"words": [space + name for name in [*names, *pieces] * 3 for space in ("", " ")], "bridging": everything}
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY[kind],
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(corpus[kind], trainer)
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")


@cache
def learned(kind: str) -> tuple[Any, PreTrainedTokenizerFast]:
    """A tiny Llama that knows all the capitals by heart, trained once per session."""
    tokenizer = tokenizer_of(kind)
    rows = [
        [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        for language in LANGUAGES
        for text in sentences(language)
    ]
    width = max(map(len, rows))
    ids = torch.tensor([row + [1] * (width - len(row)) for row in rows])
    labels = torch.tensor([row + [-100] * (width - len(row)) for row in rows])
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=4, max_position_embeddings=128, bos_token_id=0, eos_token_id=1,
        )
    )  # fmt: skip
    adam = torch.optim.AdamW(model.parameters(), lr=4e-3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a model is slower on several
    for step in range(STEPS):
        for group in adam.param_groups:
            group["lr"] = 4e-3 * min(1.0, (step + 1) / 20) * (1 - step / STEPS)
        adam.zero_grad()
        model(input_ids=ids, attention_mask=(labels != -100).long(), labels=labels).loss.backward()
        adam.step()
    torch.set_num_threads(threads)
    return model.eval(), tokenizer
