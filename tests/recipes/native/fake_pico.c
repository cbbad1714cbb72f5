/* A SVOX Pico for tests: each byte of the text becomes a sample; "?" makes it fail, and its engine is then to be reset. */
#include <stdio.h>
#include <string.h>

static char text[4096];
static int put, got, broken;
static char lingware[2][200];
static int files;

int pico_initialize(void *memory, unsigned size, void **system) { *system = memory; return size < 1000; }
int pico_loadResource(void *system, const char *file, void **resource) {
  FILE *f = fopen(file, "r");
  (void)system;
  if (!f)
    return -1;
  fclose(f);
  strncpy(lingware[files], strrchr(file, '/') + 1, 199);
  *resource = lingware[files];
  files = !files;
  return 0;
}
int pico_getResourceName(void *system, void *resource, char *name) { (void)system; strcpy(name, resource); return 0; }
int pico_createVoiceDefinition(void *system, const char *voice) { (void)system; return !*voice; }
int pico_addResourceToVoiceDefinition(void *system, const char *voice, const char *name) { (void)system; return !*voice || !*name; }
int pico_newEngine(void *system, const char *voice, void **engine) { *engine = system; return !*voice; }
int pico_resetEngine(void *engine, int mode) { (void)engine; put = got = broken = 0; return mode; }
int pico_putTextUtf8(void *engine, const char *more, short size, short *taken) {
  (void)engine;
  *taken = size < 7 ? size : 7;
  memcpy(text + put, more, *taken);
  put += *taken;
  return broken;
}
int pico_getData(void *engine, short *buffer, short size, short *received, short *type) {
  (void)engine, (void)size;
  *type = 1;
  *received = 0;
  if (!put || text[put - 1])
    return 200; /* no end of a sentence yet */
  if (got < put - 1) {
    if (text[got] == '?')
      return broken = -200;
    *buffer = text[got++];
    *received = 2;
    return 201;
  }
  put = got = 0;
  return 200;
}
