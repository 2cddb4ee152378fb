from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import typing
from importlib import resources

import pytest

from bitgap import languages as languages_module
from bitgap.errors import LanguageError
from bitgap.languages import (
    Language,
    Morphology,
    Named,
    language,
    languages,
    matching,
    named,
    script_of,
    variant,
)

# The languages of the bundled corpus and their classes as Joshi et al. (2020) published them.
BUNDLED = {
    **dict.fromkeys(("en", "de", "fr", "es", "zh", "ja", "ar"), 5),
    **dict.fromkeys(("ru", "tr", "fi", "hu", "ko", "hi", "eu"), 4),
    **{"he": 3, "sw": 2},
}

# The codes of NTREX-128's LANGUAGES.tsv and file names.
NTREX = """afr amh arb aze-Latn bak bel bem ben bod bos bul cat ces ckb-Arab cym dan deu div dzo ell
eng-GB eng-IN eng-US eng est eus ewe fao fas fij fil fin fra fra-CA fuc gle glg guj hau heb hin hmn
hrv hun hye ibo ind isl ita jpn kan kat kaz khm kin kir kmr kor lao lav lit ltz mal mar mey mkd mlg
mlt mon mri msa mya nde nep nld nno nob nso nya orm pan pol por por-BR prs pus ron rus shi sin slk
slv smo sna-Latn snd-Arab som spa spa-MX sqi srp-Cyrl srp-Latn ssw swa swe tah tam tat tel tgk-Cyrl
tha tir ton tsn tuk tur uig ukr urd uzb ven vie wol xho yor yue zho-CN zho-TW zul""".split()

# The codes of FLORES-200, with FLORES+'s newer spellings at the end.
FLORES = """
ace_Arab ace_Latn acm_Arab acq_Arab aeb_Arab afr_Latn ajp_Arab aka_Latn amh_Ethi apc_Arab
arb_Arab arb_Latn ars_Arab ary_Arab arz_Arab asm_Beng ast_Latn awa_Deva ayr_Latn azb_Arab azj_Latn
bak_Cyrl bam_Latn ban_Latn bel_Cyrl bem_Latn ben_Beng bho_Deva bjn_Arab bjn_Latn bod_Tibt bos_Latn
bug_Latn bul_Cyrl cat_Latn ceb_Latn ces_Latn cjk_Latn ckb_Arab crh_Latn cym_Latn dan_Latn deu_Latn
dik_Latn dyu_Latn dzo_Tibt ell_Grek eng_Latn epo_Latn est_Latn eus_Latn ewe_Latn fao_Latn fij_Latn
fin_Latn fon_Latn fra_Latn fur_Latn fuv_Latn gla_Latn gle_Latn glg_Latn grn_Latn guj_Gujr hat_Latn
hau_Latn heb_Hebr hin_Deva hne_Deva hrv_Latn hun_Latn hye_Armn ibo_Latn ilo_Latn ind_Latn isl_Latn
ita_Latn jav_Latn jpn_Jpan kab_Latn kac_Latn kam_Latn kan_Knda kas_Arab kas_Deva kat_Geor knc_Arab
knc_Latn kaz_Cyrl kbp_Latn kea_Latn khm_Khmr kik_Latn kin_Latn kir_Cyrl kmb_Latn kmr_Latn kon_Latn
kor_Hang lao_Laoo lij_Latn lim_Latn lin_Latn lit_Latn lmo_Latn ltg_Latn ltz_Latn lua_Latn lug_Latn
luo_Latn lus_Latn lvs_Latn mag_Deva mai_Deva mal_Mlym mar_Deva min_Arab min_Latn mkd_Cyrl plt_Latn
mlt_Latn mni_Beng khk_Cyrl mos_Latn mri_Latn mya_Mymr nld_Latn nno_Latn nob_Latn npi_Deva nso_Latn
nus_Latn nya_Latn oci_Latn gaz_Latn ory_Orya pag_Latn pan_Guru pap_Latn pes_Arab pol_Latn por_Latn
prs_Arab pbt_Arab quy_Latn ron_Latn run_Latn rus_Cyrl sag_Latn san_Deva sat_Beng scn_Latn shn_Mymr
sin_Sinh slk_Latn slv_Latn smo_Latn sna_Latn snd_Arab som_Latn sot_Latn spa_Latn als_Latn srd_Latn
srp_Cyrl ssw_Latn sun_Latn swe_Latn swh_Latn szl_Latn tam_Taml tat_Cyrl tel_Telu tgk_Cyrl tgl_Latn
tha_Thai tir_Ethi taq_Latn taq_Tfng tpi_Latn tsn_Latn tso_Latn tuk_Latn tum_Latn tur_Latn twi_Latn
tzm_Tfng uig_Arab ukr_Cyrl umb_Latn urd_Arab uzn_Latn vec_Latn vie_Latn war_Latn wol_Latn xho_Latn
ydd_Hebr yor_Latn yue_Hant zho_Hans zho_Hant zsm_Latn zul_Latn
cmn_Hans cmn_Hant ekk_Latn sat_Olck fil_Latn gug_Latn ktu_Latn""".split()

# Codes of single languages whose texts are the standard of a macrolanguage, or were merged.
STANDARD_OF = {
    **{"arb": "ara", "cmn": "zho", "zsm": "msa", "swh": "swa", "pes": "fas", "azj": "aze"},
    **{"uzn": "uzb", "lvs": "lav", "ekk": "est", "als": "sqi", "plt": "mlg", "khk": "mon"},
    **{"npi": "nep", "ory": "ori", "gaz": "orm", "pbt": "pus", "ydd": "yid", "quy": "que"},
    **{"ayr": "aym", "gug": "grn", "ktu": "kon", "fil": "tgl", "ajp": "apc"},
}


def test_the_table_has_each_language_once_and_no_impossible_fact():
    lines = resources.files("bitgap").joinpath("languages.tsv").read_text("utf-8").splitlines()
    assert len(languages()) == len(lines) - 1 >= 200
    for code, entry in languages().items():
        assert entry.code == code
        assert len(entry.code3) == 3 and entry.code3.islower()
        assert len(entry.script) == 4 and entry.script.istitle()
        assert entry.morphology in typing.get_args(Morphology)
        assert entry.resource_class in (None, 0, 1, 2, 3, 4, 5)
        assert entry.name and entry.family and entry.genus
        facts = (code, entry.name, entry.endonym or "", entry.family, entry.genus)
        assert all(fact == " ".join(fact.split()) for fact in facts)
    assert len({entry.name for entry in languages().values()}) == len(languages())


def test_the_columns_are_those_of_the_record_and_explained():
    table = resources.files("bitgap").joinpath("languages.tsv").read_text("utf-8")
    header, *lines = table.splitlines()
    columns = header.split("\t")
    assert sorted(columns) == sorted(f.name for f in dataclasses.fields(Language))
    assert all(f"``{column}``" in (languages_module.__doc__ or "") for column in columns)
    rich = columns.index("morphologically_rich")
    assert {line.split("\t")[rich] for line in lines} == {"yes", "no"}


@pytest.mark.parametrize(("code", "resource_class"), BUNDLED.items())
def test_every_bundled_language_has_its_published_resource_class(code: str, resource_class: int):
    assert languages()[code].resource_class == resource_class


@pytest.mark.parametrize("code", NTREX + FLORES)
def test_every_ntrex_and_flores_code_is_recognised(code: str):
    stated = re.split("[-_]", code)[0]
    assert language(code).code3 == STANDARD_OF.get(stated, stated)


def test_distinct_flores_texts_stay_distinct():
    # Of the FLORES-200 codes only the two Levantine Arabics share a code, as ISO 639-3 merged them.
    first_edition = FLORES[: FLORES.index("cmn_Hans")]
    assert len({language(code).code for code in first_edition}) == len(first_edition) - 1


@pytest.mark.parametrize("code", FLORES)
def test_a_flores_code_yields_the_script_it_states(code: str):
    assert language(code).script == code.split("_")[1]


@pytest.mark.parametrize(
    ("spellings", "code"),
    [
        ("he heb iw heb_Hebr he-IL HE Hebrew hebrew ivrit", "he"),
        ("zh zho cmn zh-CN zh_Hans zho_Hans cmn_Hans zh-Hans-CN zh-SG zh-Hani mandarin", "zh"),
        ("zh-TW zh_HK zh-Hant zho_Hant cmn_Hant zh-Hant-TW zh-mo", "zh-Hant"),
        ("pt por pt_BR pt-PT por_Latn Portuguese", "pt"),
        ("sr srp srp_Cyrl sr-RS", "sr"),
        ("sr-Latn srp_Latn", "sr-Latn"),
        ("ar ara arb arb_Arab ar-EG", "ar"),
        ("es es-419 spa castilian", "es"),
        ("ko kor kor_Hang ko-Kore", "ko"),
        ("sw swa swh swh_Latn kiswahili", "sw"),
        ("fa fas pes Farsi", "fa"),
        ("nb nob no Norwegian", "nb"),
        ("haw Hawaiian", "haw"),
    ],
)
def test_usual_spellings_name_the_language(spellings: str, code: str):
    assert {language(spelling).code for spelling in spellings.split()} == {code}


def test_names_of_several_words_name_the_language():
    assert language("Chinese (Traditional)").code == "zh-Hant"
    assert language(" simplified chinese ").code == "zh"
    assert language("haitian creole").code == "ht"


def test_every_code_and_name_in_the_table_finds_its_own_row():
    for entry in languages().values():
        assert language(entry.code) is entry
        assert language(entry.name) is entry
        assert language(f"{entry.code3}_{entry.script}") is entry


def test_another_script_keeps_the_facts_and_enters_the_code():
    romanised = language("arb_Latn")
    assert (romanised.code, romanised.script, romanised.script_direction) == (
        "ar-Latn",
        "Latn",
        "ltr",
    )
    assert (romanised.family, romanised.morphology) == ("Afro-Asiatic", "introflexive")
    assert language(romanised.code) == romanised


def test_direction_follows_the_script():
    rtl = {code for code, entry in languages().items() if entry.script_direction == "rtl"}
    assert {"he", "ar", "fa", "ur", "yi", "dv", "ug"} <= rtl
    assert not rtl & {"en", "ru", "zh", "ja", "hi", "tr"}


@pytest.mark.parametrize(
    "wrong", ["", "xx", "kr", "hebr", "he_txt", "en--US", "zh-Hans-CN-x", "he-Zzzz"]
)
def test_what_is_no_language_is_refused(wrong: str):
    with pytest.raises(LanguageError, match="unknown language"):
        language(wrong)


def test_a_misspelling_is_answered_with_the_closest_language():
    with pytest.raises(LanguageError, match=r"'Hebrw'; closest: he \(Hebrew\)"):
        language("Hebrw")


def test_a_language_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        languages()["he"].name = "Ivrit"  # type: ignore[misc]
    with pytest.raises(TypeError):
        languages()["he"] = languages()["ar"]  # type: ignore[index]


def test_a_page_names_a_language_in_itself_where_that_says_more():
    assert named("heb_Hebr") == Named("heb_Hebr", "Hebrew", "עברית", "rtl")
    assert named("en") == Named("en", "English", None, "ltr")
    assert named("fo").own is None
    assert named("ar-Latn") == Named("ar-Latn", "Arabic (Latn)", None, "ltr")
    assert named("no such") == Named("no such", "no such", None, "ltr")


def test_languages_and_corpora_import_no_torch():
    script = (
        "import sys, bitgap.languages, bitgap.corpora.parallel as p; p.load_corpus; "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# -- outside the table -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelling", "code", "name", "script"),
    [
        ("gsw", "gsw", "Swiss German", "Zyyy"),
        ("pcm_Latn", "pcm-Latn", "Nigerian Pidgin", "Latn"),
        ("brx-Deva", "brx-Deva", "Bodo (India)", "Deva"),
        ("MYV", "myv", "Erzya", "Zyyy"),
        ("chv", "cv", "Chuvash", "Zyyy"),
        ("rhg_Rohg", "rhg-Rohg", "Rohingya", "Rohg"),
    ],
)
def test_a_language_outside_the_table_is_known_by_its_code_and_no_fact_is_claimed(
    spelling: str, code: str, name: str, script: str
):
    entry = language(spelling)
    assert (entry.code, entry.name, entry.script) == (code, name, script)
    assert entry.family is entry.genus is entry.morphology is entry.morphologically_rich is None
    assert language(entry.code) == entry and named(code).name == name
    assert named("rhg-Rohg").direction == "rtl"


def test_no_code_of_the_table_means_something_else_outside_it():
    outside = {code for code in languages() if language(code) is not languages()[code]}
    assert not outside


@pytest.mark.parametrize(
    ("spelling", "kept"),
    [("pt-BR", "pt-BR"), ("por_BR", "pt-BR"), ("pt", "pt"), ("zh-TW", "zh-Hant"), ("zh-CN", "zh"),
     ("gsw-CH", "gsw-CH"), ("sr-Latn-RS", "sr-Latn-RS"), ("es-419", "es-419"), ("Hebrew", "he"),
     ("ca-valencia", "ca-valencia"), ("cat_Latn_vale1252", "ca-vale1252"), ("de-1901", "de-1901"),
     ("apc_Arab_nort3139", "apc-nort3139"), ("de-CH-1901", "de-CH-1901")],
)  # fmt: skip
def test_a_variant_keeps_its_region(spelling: str, kept: str):
    assert variant(spelling) == kept


@pytest.mark.parametrize("tag", "en-clean en_dedup de-1901-CH en-GB-x-private en-abcd1".split())
def test_what_names_of_files_go_on_with_is_no_variant(tag: str):
    with pytest.raises(LanguageError, match="unknown language"):
        language(tag)


def test_a_variant_is_named_with_its_region():
    assert named("pt-BR") == Named("pt-BR", "Portuguese (BR)", "português", "ltr")


@pytest.mark.parametrize(
    ("text", "script"),
    [("Эрзянь кель 3 km", "Cyrl"), ("ᱥᱟᱱᱛᱟᱲᱤ", "Olck"), ("かなと漢字", "Jpan"), ("漢字", "Hani"),
     ("한국어 漢字", "Kore"), ("שלום world עולם", "Hebr"), ("12 + 3", "Zyyy"), ("", "Zyyy"),
     ("𞤀𞤣𞤤𞤢𞤥", "Adlm"), ("ไทย", "Thai"), ("ᏣᎳᎩ", "Cher")],
)  # fmt: skip
def test_the_script_of_a_text_is_that_of_most_letters(text: str, script: str):
    assert script_of(text) == script


def test_what_a_spelling_means_among_codes():
    have = ("en", "pt-BR", "pt-PT", "gsw-Latn", "fr", "fr-CA", "sr-Latn")
    wanted = {"fr": ("fr",), "fra": ("fr",), "fr-CA": ("fr-CA",), "gsw": ("gsw-Latn",), "sr": ()}
    wanted |= {
        "pt": ("pt-BR", "pt-PT"),
        "pt-AO": (),
        "por_PT": ("pt-PT",),
        "gsw_Latn": ("gsw-Latn",),
    }
    assert {spelling: matching(spelling, have) for spelling in wanted} == wanted
    assert matching("pt-BR", ("pt",)) == ("pt",), "a variant alone is its language"
    assert matching("mine", ("mine",)) == ("mine",), "whatever a corpus calls its own"
