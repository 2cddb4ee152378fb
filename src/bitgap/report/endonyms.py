"""What languages call themselves, for pages; every name is set in its own direction there."""

from __future__ import annotations

from dataclasses import dataclass

from bitgap.errors import LanguageError
from bitgap.languages import language

_NAMES = {
    "en": "English", "de": "Deutsch", "nl": "Nederlands", "af": "Afrikaans", "da": "dansk",
    "sv": "svenska", "nb": "norsk bokmål", "nn": "nynorsk", "is": "íslenska", "yi": "ייִדיש",
    "fr": "français", "es": "español", "pt": "português", "it": "italiano", "ro": "română",
    "ca": "català", "gl": "galego", "oc": "occitan", "la": "Latina", "ru": "русский",
    "uk": "українська", "be": "беларуская", "pl": "polski", "cs": "čeština", "sk": "slovenčina",
    "sl": "slovenščina", "hr": "hrvatski", "bs": "bosanski", "sr": "српски", "bg": "български",
    "mk": "македонски", "lt": "lietuvių", "lv": "latviešu", "el": "Ελληνικά", "sq": "shqip",
    "hy": "հայերեն", "ga": "Gaeilge", "gd": "Gàidhlig", "cy": "Cymraeg", "br": "brezhoneg",
    "fa": "فارسی", "ps": "پښتو", "hi": "हिन्दी", "ur": "اردو", "bn": "বাংলা", "mr": "मराठी",
    "gu": "ગુજરાતી", "pa": "ਪੰਜਾਬੀ", "ne": "नेपाली", "si": "සිංහල", "fi": "suomi", "et": "eesti",
    "hu": "magyar", "tr": "Türkçe", "az": "azərbaycan", "kk": "қазақ", "ky": "кыргызча",
    "tt": "татар", "uz": "oʻzbek", "mn": "монгол", "ka": "ქართული", "eu": "euskara",
    "ta": "தமிழ்", "ml": "മലയാളം", "kn": "ಕನ್ನಡ", "te": "తెలుగు", "ar": "العربية",
    "he": "עברית", "mt": "Malti", "am": "አማርኛ", "ti": "ትግርኛ", "ha": "Hausa", "so": "Soomaali",
    "om": "Oromoo", "sw": "Kiswahili", "zu": "isiZulu", "xh": "isiXhosa", "yo": "Yorùbá",
    "ig": "Igbo", "rw": "Kinyarwanda", "zh": "中文", "zh-Hant": "繁體中文", "my": "မြန်မာ",
    "ja": "日本語", "ko": "한국어", "th": "ไทย", "lo": "ລາວ", "vi": "Tiếng Việt", "km": "ខ្មែរ",
    "id": "Bahasa Indonesia", "ms": "Bahasa Melayu", "jv": "Jawa", "tl": "Tagalog",
    "mi": "Māori",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Named:
    """A language as a page writes it."""

    code: str
    name: str
    """In English, or the code where it is none that is known."""
    own: str | None
    """In itself, or None where that is not known or is the English name."""
    direction: str
    """``ltr`` or ``rtl``."""


def named(code: str) -> Named:
    """Returns how a page writes a language."""
    try:
        found = language(code)
    except LanguageError:
        return Named(code, code, None, "ltr")
    own = _NAMES.get(found.code)
    return Named(code, found.name, own if own != found.name else None, found.script_direction)
