/* An RHVoice for tests: 240 samples for each byte of a word, 480 of silence after each; the rate and the pitch are the first samples.
 * Like the real one, it hands its samples on in pieces as long as a virtual function of its client says. */
#include <stdlib.h>
#include <string.h>

typedef struct { const char *data, *config, **more; int (*rate)(int, void *), (*play)(const short *, unsigned, void *); void *mark;
  int (*starts)(unsigned, unsigned, void *), (*ends)(unsigned, unsigned, void *); } Setup;
typedef struct { const char *voice; double absolute[3], rate, pitch, volume; } Manner;
typedef struct { void **table; const char *text; Manner manner; void *data; } Message;
#ifndef CHANGED
unsigned _ZNK7RHVoice6client21get_audio_buffer_sizeEv(const void *client) { (void)client; return 100; }
#define LENGTH _ZNK7RHVoice6client21get_audio_buffer_sizeEv
#else
static unsigned LENGTH(const void *client) { (void)client; return 100; }
#endif
static void *virtual_table[32] = {0, 0, 0, 0, (void *)LENGTH};
static Setup setup;
static short kept[100000];
static unsigned held;

void *RHVoice_new_tts_engine(const Setup *given) { setup = *given; return given->data && *given->data ? &setup : NULL; }
void *RHVoice_new_message(void *engine, const char *text, unsigned length, int type, const Manner *manner, void *data) {
  Message *message = malloc(sizeof *message);
  (void)engine, (void)length, (void)type;
  *message = (Message){virtual_table + 2, text, *manner, data};
  return message;
}
void RHVoice_delete_message(void *message) { free(message); }
static int sink(Message *message, int count, short value) {
  unsigned desired = ((unsigned (*)(const void *))message->table[2])(message) * 24;
  for (int i = 0; i < count; i++) {
    kept[held++] = value;
    if (held >= desired) {
      if (!setup.play(kept, held, message->data))
        return 0;
      held = 0;
    }
  }
  return 1;
}
int RHVoice_speak(void *given) {
  Message *message = given;
  held = 0;
  setup.rate(24000, message->data);
  if (!sink(message, 120, 1000 * message->manner.rate + 0.5) || !sink(message, 120, 1000 * message->manner.pitch + 0.5))
    return 0;
  for (const char *word = message->text; *word;) {
    unsigned length = strcspn(word, " ");
    setup.starts(word - message->text, length, message->data);
    if (!sink(message, 240 * length, 9000))
      return 0;
    setup.ends(word - message->text, length, message->data);
    if (!sink(message, 480, 0))
      return 0;
    word += length + (word[length] == ' ');
  }
  return !held || setup.play(kept, held, message->data);
}
