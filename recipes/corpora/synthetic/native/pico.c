/* Collects what SVOX Pico says of one text. Declares what is used of picoapi.h (1.0): the engine gives 64 bytes a call. */
#include <stdlib.h>
#include <string.h>

int pico_initialize(void *memory, unsigned size, void **system);
int pico_loadResource(void *system, const char *file, void **resource);
int pico_getResourceName(void *system, void *resource, char name[200]);
int pico_createVoiceDefinition(void *system, const char *voice);
int pico_addResourceToVoiceDefinition(void *system, const char *voice, const char *resource);
int pico_newEngine(void *system, const char *voice, void **engine);
int pico_resetEngine(void *engine, int mode);
int pico_putTextUtf8(void *engine, const char *text, short size, short *taken);
int pico_getData(void *engine, void *buffer, short size, short *received, short *type);

enum { MEMORY = 2500000, BUSY = 201, IDLE = 200, PIECE = 1024, RESET_FULL = 0 };

/* An engine that speaks with two files of lingware, or NULL. */
void *riverrun_open(const char *analysis, const char *signal) {
  const char *files[] = {analysis, signal};
  void *memory = malloc(MEMORY), *system = NULL, *resource, *engine;
  char name[200];
  int failed = !memory || pico_initialize(memory, MEMORY, &system) || pico_createVoiceDefinition(system, "voice");
  for (int i = 0; i < 2 && !failed; i++)
    failed = pico_loadResource(system, files[i], &resource) || pico_getResourceName(system, resource, name) ||
             pico_addResourceToVoiceDefinition(system, "voice", name);
  return failed || pico_newEngine(system, "voice", &engine) ? NULL : engine;
}

/* The number of samples, or -1: an error, or more than `capacity` of them. The engine is reset first, its noise with it: a text sounds the
 * same whatever was said before it. */
int riverrun_speak(void *engine, const char *text, short *samples, int capacity) {
  int left = strlen(text) + 1, count = 0, status = IDLE; /* the end mark makes it speak what is left */
  char piece[PIECE];
  if (pico_resetEngine(engine, RESET_FULL))
    return -1;
  while (left) {
    short taken = 0, received, type;
    if (pico_putTextUtf8(engine, text, left < PIECE ? left : PIECE, &taken) || !taken)
      return -1;
    text += taken;
    left -= taken;
    do {
      status = pico_getData(engine, piece, sizeof piece, &received, &type);
      if (received / 2 > capacity - count)
        return -1;
      memcpy(samples + count, piece, received);
      count += received / 2;
    } while (status == BUSY);
    if (status != IDLE)
      return -1;
  }
  return count;
}
