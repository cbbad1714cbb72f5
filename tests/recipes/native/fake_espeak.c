/* As much of libespeak-ng as reading needs: two voices, and phonemes that are the letters, a clause for each "|". */
#include <string.h>

static char found[256];

int espeak_Initialize(int output, int length, const char *path, int options) { return 22050; }

int espeak_SetVoiceByName(const char *name) { return strcmp(name, "en-us") && strcmp(name, "en"); }

const char *espeak_TextToPhonemes(const void **text, int characters, int mode) {
    const char *from = *text, *end = strchr(from, '|');
    size_t length = end ? (size_t)(end - from) : strlen(from);
    if (length > sizeof found - 1) length = sizeof found - 1;
    memcpy(found, from, length);
    found[length] = 0;
    *text = end ? end + 1 : NULL;
    return found;
}
