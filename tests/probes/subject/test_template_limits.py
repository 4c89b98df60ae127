"""Chat templates that loop, fill the memory or try to leave the sandbox: an item's error in one line, nothing else."""

from __future__ import annotations

import resource
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from override_gap.margins.items.item import ItemError
from override_gap.probes.subject import chat, template_limits
from override_gap.probes.subject.chat import chat_prompt
from override_gap.probes.subject.chat_template import ChatSettings
from override_gap.probes.subject.template_limits import TemplateTooLong, has_powers, limited
from tests.families import words
from tests.probes.subject.templates import CHATML

LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}"
DOUBLING = "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x | length }}"
COSTLY = {
    "a loop in loops": (LOOP, "computes for more"),
    "macros that call one another": (
        "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "computes for more",
    ),
    "a number squared": (
        "{% set ns = namespace(x=3) %}{% for i in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
        "computes for more|takes more",
    ),
    "a macro that calls itself": (
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "refuses the turns|computes for more",
    ),
    "a text doubled": (DOUBLING, "takes more than|computes for more"),
    "a text repeated": ("{{ 'a' * 100000000000 }}", "takes more than"),
    "a power": ("{{ 10 ** (10 ** 10) }}", "raises a number to a power"),
    "a wide format": ("{{ '%099999999999d' % 1 }}", "takes more than|refuses"),
    "a long output": ("{{ 'ab' * 2500000 }}{{ messages[0].content }}", "writes 5,0|computes for more"),
    "a centred text": ("{{ 'a'.center(100000000000) }}", "takes more than|refuses"),
}
ESCAPES = {
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals of a helper": "{{ cycler.__init__.__globals__.os.system('touch ran') }}",
    "globals of lipsum": "{{ lipsum.__globals__['os'].popen('touch ran').read() }}",
    "globals of what transformers adds": "{{ raise_exception.__globals__['__builtins__']['open']('ran', 'w') }}",
    "the date's function": "{{ strftime_now.__globals__.__builtins__.__import__('os').system('touch ran') }}",
    "an attribute by name": "{{ ''|attr('__class__')|attr('__mro__') }}",
    "a format": "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "a format, mapped": "{{ '{a.__class__}'.format_map({'a': messages}) }}",
    "self": "{{ self._TemplateReference__context.environment.from_string('x') }}",
    "a file": "{% include '/etc/passwd' %}",
    "an import": "{% import 'os' as os %}{{ os.system('touch ran') }}",
    "a message changed": "{% set _ = messages.append({'role': 'user', 'content': 'x'}) %}",
}


def ask(template: str) -> str:
    return chat_prompt(words(), "alpha beta", ChatSettings(template=template)).text


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux")
@pytest.mark.parametrize("name", COSTLY)
def test_a_costly_template_is_an_error_of_the_item_in_one_line(name: str, monkeypatch) -> None:
    template, message = COSTLY[name]
    monkeypatch.setattr(template_limits, "SECONDS", 0.1)
    monkeypatch.setattr(template_limits, "BYTES", 2**28)
    before = resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGVTALRM)
    started = time.process_time()
    with pytest.raises(ItemError, match=message) as refused:
        ask(template)
    assert time.process_time() - started < 6
    assert "\n" not in str(refused.value)
    assert (resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGVTALRM)) == before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    assert "alpha beta" in ask(CHATML)


@pytest.mark.parametrize("name", ESCAPES)
def test_a_template_reaches_nothing_outside(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ItemError) as refused:
        ask(ESCAPES[name])
    assert "\n" not in str(refused.value)
    assert "root:" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_bold_type_is_no_power() -> None:
    assert "**alpha beta**" in ask("{{ '**' ~ messages[0].content ~ '**' }} **{{ 2 * 3 }}**")


def test_time_spent_waiting_does_not_count() -> None:
    """A busy machine refuses no template: it is the computing that is limited."""
    with limited(0.05):
        time.sleep(0.3)
    with pytest.raises(TemplateTooLong), limited(0.05):
        all(n >= 0 for n in range(10**12))


def test_another_thread_is_not_stopped_and_stops_nothing() -> None:
    rendered: list[str] = []
    thread = threading.Thread(target=lambda: rendered.append(ask(CHATML)))
    thread.start()
    thread.join()
    assert rendered == [ask(CHATML)]


def test_an_honest_rendering_costs_little() -> None:
    """Against the library alone; the limits take some file and system calls."""
    tokenizer, turns = words(), [{"role": "user", "content": "alpha beta"}]
    chat._render(tokenizer, CHATML, ChatSettings(), turns)
    started = time.perf_counter()
    for _ in range(200):
        with limited():
            pass
    assert (time.perf_counter() - started) / 200 < 2e-3


@pytest.mark.parametrize(
    ("template", "powers"),
    [
        ("{{ 2**3 }}", True),
        ("{{ (2) ** n }}", True),
        ("{{ f(x ** 2, **names) }}", True),
        ("{{ dict(**message) }}", False),
        ("{{ dict( a=1,\n ** message) }}", False),
        ("** bold ** {{ '2 ** 3' }} {# 2 ** 3 #}", False),
    ],
)
def test_a_power_is_told_from_keywords_and_text(template: str, powers: bool) -> None:
    assert has_powers(template) == powers
