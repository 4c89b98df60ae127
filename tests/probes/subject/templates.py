"""Chat templates that behave as those of known families, each in its essential form."""

from __future__ import annotations

LLAMA_2 = (  # a space stands between the generation prompt and the answer; the system text is within the user's turn
    "{% for m in messages %}{% if m.role == 'system' %}{% else %}{% if m.role == 'user' %}"
    "{{ bos_token + '[INST] ' }}{% if messages[0].role == 'system' and loop.index0 == 1 %}"
    "{{ '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' }}{% endif %}{{ m.content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endif %}{% endfor %}"
)
MISTRAL_02 = (  # turns alternate, so a system turn is refused
    "{{ bos_token }}{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate user/assistant') }}{% endif %}"
    "{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}{% else %}{{ ' ' + m.content + eos_token }}{% endif %}"
    "{% endfor %}"
)
MISTRAL_03 = (  # the system text goes into the last turn, if that is the user's: not where an answer is rendered behind it
    "{% if messages[0].role == 'system' %}{% set s = messages[0].content %}{% set turns = messages[1:] %}"
    "{% else %}{% set turns = messages %}{% endif %}{{ bos_token }}{% for m in turns %}{% if m.role == 'user' %}"
    "{% if loop.last and s is defined %}{{ '[INST] ' + s + '\n\n' + m.content + '[/INST]' }}"
    "{% else %}{{ '[INST] ' + m.content + '[/INST]' }}{% endif %}"
    "{% else %}{{ ' ' + m.content | trim + eos_token }}{% endif %}{% endfor %}"
)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHATML_WITHOUT_PROMPT = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
)
QWEN_3 = (  # an answer that is rendered last has an empty thought; the generation prompt only where thinking is off
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and loop.last %}{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
HISTORY_WITHOUT_THOUGHTS = (  # rendered answers have no thought, asked with thinking off they have one
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|assistant|>' }}{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)
DEEPSEEK_R1 = (  # every answer is to begin with a thought, which is left out of rendered answers
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% elif m.role == 'user' %}"
    "{{ '<|User|>' + m.content }}"
    "{% else %}{{ '<|Assistant|>' + m.content.split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}"
)
GEMMA = (  # no system turn; the assistant is called model; contents are trimmed
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim "
    "+ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
LLAMA_3 = (  # a system header with today's date
    "{{ bos_token + '<|system|>\nToday: ' + strftime_now('%d %b %Y') + '\n' }}"
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% set messages = messages[1:] %}{% endif %}{{ '<|eot|>' }}"
    "{% for m in messages %}{{ '<|' + m.role + '|>\n\n' + m.content | trim + '<|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n\n' }}{% endif %}"
)
GPT_OSS = (  # the answer stands in a channel, which the generation prompt does not open
    "{% for m in messages %}{{ '<|start|>' + m.role + ('<|channel|>final' if m.role == 'assistant' else '') + '<|message|>' "
    "+ m.content + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
WITHOUT_SYSTEM = (  # a system turn is left out without a word
    "{% for m in messages %}{% if m.role == 'user' %}{{ 'USER: ' + m.content }}"
    "{% elif m.role == 'assistant' %}{{ ' ASSISTANT: ' + m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"
)
PARTS = (  # contents are lists of parts, as vision-language models write them; a text is not an error but lost
    "{% for m in messages %}{{ m.role + ': ' }}{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}"
    "{% endfor %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
ENDS_WITH_USER = (  # a conversation that ends with the assistant is refused
    "{% if messages[-1].role != 'user' %}{{ raise_exception('the last message must be the user\\'s') }}{% endif %}"
    "{% for m in messages %}{{ '[' + m.role + ']' }}{{ ' ' if m.role == 'assistant' }}{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)
ONLY_QUESTIONS = (
    "{{ 'Q: ' + messages[-1].content + ' A:' if messages[-1].role == 'user' else raise_exception('no answers') }}"
)
GENERATION_TAGS = (  # what is trained on is marked
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content + eos_token }}"
    "{% endgeneration %}{% else %}{{ m.content + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
