"""Language codes and names."""

from __future__ import annotations

_CODES = (
    "afr:af amh:am arb:ar asm:as azj:az bel:be ben:bn bos:bs bul:bg cat:ca ces:cs cmn:zh cym:cy dan:da deu:de ell:el eng:en est:et "
    "eus:eu fin:fi fra:fr gle:ga glg:gl guj:gu heb:he hin:hi hrv:hr hun:hu hye:hy ibo:ig ind:id isl:is ita:it jav:jv jpn:ja kan:kn "
    "kat:ka kaz:kk khk:mn khm:km kir:ky kor:ko lao:lo lit:lt lug:lg lvs:lv mal:ml mar:mr mkd:mk mlt:mt mya:my nld:nl nno:nn nob:nb "
    "npi:ne nya:ny ory:or pan:pa pbt:ps pes:fa pol:pl por:pt ron:ro rus:ru slk:sk slv:sl sna:sn snd:sd som:so spa:es srp:sr swe:sv "
    "swh:sw tam:ta tel:te tgk:tg tgl:tl tha:th tur:tr ukr:uk urd:ur uzn:uz vie:vi yor:yo yue:yue zsm:ms zul:zu"
)
#: ISO 639-1 codes of languages by the code that SeamlessM4T gives them.
_TWO_LETTERS = dict(pair.split(":") for pair in _CODES.split())

#: English names of the languages that speech language models are asked to write.
NAMES = {
    "ar": "Arabic",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "hi": "Hindi",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "pt": "Portuguese",
    "ru": "Russian",
    "zh": "Chinese",
}


def two_letters(code: str) -> str:
    """The ISO 639-1 code of a language, or the code itself where there is none (``cmn_Hant``, ``ceb``)."""
    return _TWO_LETTERS.get(code, code)
