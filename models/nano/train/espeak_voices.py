"""The voices of espeak-ng that nano hears, and its phonemes in our inventory. Data, and the list made of it.

A voice is an accent with a speaker variant. Left out: whispers, echoes and robots, voices that clip, near copies, and
the four whose gender is unclear from their pitch and settings (Nguyen, shelby, zac, caleb).
"""

from models.nano.train.utterance import Voice

FILES = {  # our name -> voice file of espeak-ng
    "en": "gmw/en",
    "en-us": "gmw/en-US",
    "en-us-nyc": "gmw/en-US-nyc",
    "en-gb-x-rp": "gmw/en-GB-x-rp",
    "en-gb-x-gbclan": "gmw/en-GB-x-gbclan",
    "en-gb-scotland": "gmw/en-GB-scotland",
    "en-029": "gmw/en-029",
    "cmn": "sit/cmn",
    "de": "gmw/de",
    "es": "roa/es",
    "es-419": "roa/es-419",
    "ko": "ko",
    "fr": "roa/fr",
    "fr-be": "roa/fr-BE",
    "fr-ch": "roa/fr-CH",
    "ja": "jpx/ja",
    "it": "roa/it",
}
RHOTIC = frozenset({"en-us", "en-us-nyc"})
UNSEEN_ACCENT = "en-gb-scotland"


def _names(text: str) -> list[str]:
    return text.split()


WOMEN = _names("f1 f2 f3 f5 Alicia anika aunty belinda grandma linda steph steph2 steph3")
UNSEEN_WOMEN = _names("f4 Andrea Annie")
MEN = _names(
    "m1 m2 m4 m5 m6 m8 Alex Andy Diogo Gene Gene2 Henrique Jacky Lee Marco Mario Michael Mike Reed adam antonio "
    "benjamin boris david edward2 grandpa gustave iven2 iven3 john kaukovalta klatt klatt2 klatt4 klatt6 marcelo max "
    "michel miguel mike2 norbert paul pedro quincy rob robert sandro travis"
)
UNSEEN_MEN = _names("m3 m7 Denis Storm ed ian klatt3 pablo victor")


def voices() -> list[Voice]:
    """Held-out variants are held out in every language; the held-out accent is spoken by them alone."""
    speakers = [
        *(("woman", "seen", name) for name in WOMEN),
        *(("man", "seen", name) for name in ["", *MEN]),
        *(("woman", "variant", name) for name in UNSEEN_WOMEN),
        *(("man", "variant", name) for name in UNSEEN_MEN),
    ]
    return [
        Voice("espeak", f"{accent}+{name}" if name else accent, _language(accent), gender, split)
        for accent in FILES
        for gender, split, name in speakers
        if split == "variant" or accent != UNSEEN_ACCENT
    ]


def _language(accent: str) -> str:
    return "zh" if accent == "cmn" else accent.partition("-")[0]


def _table(text: str) -> dict[str, str]:
    return dict(pair.split(">") for pair in text.split())


# espeak-ng > ours; "+" is two phones, "-" none. The same in all accents but where an r is written into the vowel.
PHONE_MAP = _table(
    "b>b d>d f>f g>g h>hh j>y k>k l>l m>m n>n p>p r>r s>s t>t v>v w>w z>z D>dh T>th S>sh Z>zh N>ng tS>ch dZ>jh "
    "t#>t t2>t t[>t d[>d d#>d ?>t n->n m->m r->r r/>r r2>r l/>l l#>l w#>w x>k C>hh ;>- h#>hh z#>z *>t "
    "a>ae aa>aa a#>ax a/>ae A:>aa A#>aa A@>aa 0>aa 0#>aa 02>aa O2>ao O:>ao O>ao O#>ao O@>ao o@>ao oO>ao U@>uh+ax "
    "i@>iy+ax i@3>ih+ax I@>ih+ax e@>eh+ax E:>eh 3:>er 3>ax IR>er VR>er ER>er @>ax @2>ax @5>ax @->ax @#>ax @L>ax+l "
    "I>ih I2>ih I#>ih I2#>ih i>iy i:>iy i2>iy E>eh E2>eh E#>eh e>eh V>ah V#>ah U>uh U#>uh u>uw u:>uw u#>uw "
    "eI>ey aI>ay aI2>ay aI@>ay+ax aI3>ay+ax OI>oy OI@>oy+ax oU>ow oU#>ow o>ow aU>aw aU@>aw+ax"
)
RHOTIC_MAP = _table("aa>ae A@>aa+r O@>ao+r o@>ao+r U@>uh+r i@3>ih+r e@>eh+r 3>er aI3>ay+er aU@>aw+er OI@>oy+er")
