"""Stop words: what is common to texts about anything, by language; and the particles of scripts that attach them to words."""

from __future__ import annotations

ENGLISH = frozenset(
    "a an and are as at be been by can did do does for from had has have he her his how in into is it its known named of "
    "on or she than that the their them these they this to was were what when where which who whom whose why will with".split()
)
#: Languages in Latin letters, whose words may be content in another: the list of the text's own language is used.
LATIN = {
    "French": frozenset(
        "au aux avec ce ces comment dans de des du elle en est et il la le les leur où par pour qu que quel quelle qui sa se ses "
        "son sont sur un une était l d s c n".split()
    ),
    "Spanish": frozenset(
        "a al como con cuál cuándo de del dónde el ella en era es esta este fue la las los más para por que qué quién se son su "
        "sus un una y".split()
    ),
    "Portuguese": frozenset(
        "a ao as com como da das de do dos e ela ele em era foi é mais na nas no nos o onde os para pela pelo por qual quando "
        "que quem se seu sua um uma".split()
    ),
    "Italian": frozenset(
        "al alla che chi come con da dal dalla dei del della delle di dove e era gli i il in la le lo nel nella per qual quale "
        "si sono su sua suo un una è l d".split()
    ),
    "German": frozenset(
        "als am an auf aus bei das dem den der des die durch ein eine einem einen einer es für hat im in ist mit nach nicht "
        "sich sie sind und von war was welche welcher wer wie wo wurde zu zum zur".split()
    ),
    "Dutch": frozenset(
        "aan als bij dat de die door een en er haar het hij in is met naar niet of om op te tot uit van voor waar was wat "
        "welke werd wie zij zijn".split()
    ),
    "Polish": frozenset(
        "a co do gdzie i jak jest kiedy kto który która które na nie o od po się są to w we z za ze".split()
    ),
    "Turkish": frozenset("bir bu da de en için ile kim ne nedir nerede olan olarak ve".split()),
}
#: In other scripts no word is content in another language that shares the script often enough to matter.
OTHER = frozenset(
    # Russian and Ukrainian
    "а был была было были в во где для до его её ее и из или как какой какая какое когда кто к на не о об он она они от по при с "
    "со что это этот эта я является і й з із за та у що хто де є як який яка було бути "
    # Greek
    "η ο το οι τα του της των τον την στο στη στην στον και είναι ήταν με για από που τι ποιος ποια ποιο ένα μια "
    # Arabic, Persian
    "في من على إلى الى عن ما هو هي هذا هذه التي الذي كان كانت أن ان و هل أين اين متى مع بين كم "
    "از به در با که این آن است را برای چه کی کجا بود "
    # Hebrew
    "של את על הוא היא זה זו מי מה איפה מתי הם עם אל כי גם לא היה הייתה "
    # Hindi
    "का के की को में से पर है हैं था थी थे और यह वह कौन क्या कहाँ कब एक ने कि जो".split()
)
#: Chinese characters that are words of grammar; a run of characters is cut at them.
CHINESE = frozenset("的是在了和与與及也被于於之有这這那哪什么麼谁誰吗嗎呢为為以其他她它从從把对對")
#: Words of grammar of scripts without spaces, cut out of a text.
SOUTHEAST = (
    "ของ คือ เป็น อยู่ ที่ ใน และ ได้ จาก ไหน อะไร ใคร ແມ່ນ ຂອງ ຢູ່ ໃນ ແລະ ຄື ທີ່ របស់ គឺ នៅ ក្នុង និង ជា ដែល သည် ၏ မှာ တွင် နှင့် ဖြစ်သည် ကို"
).split()
#: What Korean attaches to a noun, the longest first.
KOREAN = tuple(
    "이라고 에서는 입니다 이었다 에서 에게 에는 으로 까지 부터 보다 처럼 이다 이며 이고 라고 였다 이란 이나 "
    "은 는 이 가 을 를 의 에 로 와 과 도 만 란 나".split()
)
