"""The Debian packages that engines need, and their voices' licences. The neural ones, kokoro and piper, need those of espeak."""

# By their names in Debian 12, where those of RHVoice and Pico are in the section non-free.
PACKAGES = {
    "espeak": ("espeak-ng-data", "libespeak-ng1", "libsonic0"),
    "festival": (
        "festival", "libestools2.5", "libasound2", "festlex-cmu", "festlex-poslex", "festvox-kallpc16k", "festvox-kdlpc16k",
        "festvox-us-slt-hts",
    ),
    "flite": ("libflite1", "libasound2"),
    "pico": ("libttspico0", "libttspico-data"),
    "rhvoice": ("librhvoice5", "librhvoice-core7", "rhvoice-english", "libsonic0"),
}  # fmt: skip

# What the engines' voices may be used under, for the corpus's own record; see the files in ``conf`` for where this is said.
LICENCES = {
    "espeak": "espeak-ng (GPL-3)",
    "festival": "voices of festival (BSD-like)",
    "flite": "voices of flite (BSD-like)",
    "kokoro": "Kokoro-82M (Apache-2.0)",
    "pico": "SVOX Pico (Apache-2.0, lingware without sources)",
    "piper": "voices of Piper (each its own, see its model card)",
    "rhvoice": "voices of RHVoice (LGPL-2.1+)",
}
