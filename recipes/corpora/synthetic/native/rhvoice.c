/* Collects what RHVoice says of one text: samples, and for each word where it starts and ends in text and samples.
 *
 * Declares what is used of RHVoice.h (1.8). The library hands out samples in pieces of 100 ms, which is as exact as its word events are
 * when they are told by the samples so far. It asks its client for that length through a virtual function, here made to answer 5 ms,
 * one frame of the voices.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>

typedef struct {
  int (*set_sample_rate)(int, void *);
  int (*play_speech)(const short *, unsigned, void *);
  int (*process_mark)(const char *, void *);
  int (*word_starts)(unsigned, unsigned, void *);
  int (*word_ends)(unsigned, unsigned, void *);
  int (*sentence_starts)(unsigned, unsigned, void *);
  int (*sentence_ends)(unsigned, unsigned, void *);
  int (*play_audio)(const char *, void *);
  void (*done)(void *);
} Callbacks;

typedef struct {
  const char *data_path, *config_path;
  const char **resource_paths;
  Callbacks callbacks;
  unsigned options;
} Setup;

typedef struct {
  const char *voice;
  double absolute_rate, absolute_pitch, absolute_volume, rate, pitch, volume;
  int punctuation_mode;
  const char *punctuation_list;
  int capitals_mode, flags;
} Manner;

void *RHVoice_new_tts_engine(const Setup *);
void *RHVoice_new_message(void *, const char *, unsigned, int, const Manner *, void *);
int RHVoice_speak(void *);
void RHVoice_delete_message(void *);

typedef struct {
  unsigned position, length;
  int start, end;
} Word;

typedef struct {
  short *samples;
  Word *words;
  int sample_capacity, word_capacity, sample_count, word_count, sample_rate;
} Recording;

enum { ENTRIES = 15, BEFORE = 2 }; /* of its virtual table, and those before the place that objects point to */

static int frame_ms(const void *client) {
  (void)client;
  return 5;
}

static int take_rate(int rate, void *data) {
  ((Recording *)data)->sample_rate = rate;
  return 1;
}

static int take_samples(const short *samples, unsigned count, void *data) {
  Recording *to = data;
  if (count > (unsigned)(to->sample_capacity - to->sample_count))
    return 0;
  memcpy(to->samples + to->sample_count, samples, count * sizeof *samples);
  to->sample_count += count;
  return 1;
}

static int take_start(unsigned position, unsigned length, void *data) {
  Recording *to = data;
  if (to->word_count == to->word_capacity)
    return 0;
  to->words[to->word_count++] = (Word){position, length, to->sample_count, -1};
  return 1;
}

static int take_end(unsigned position, unsigned length, void *data) {
  Recording *to = data;
  for (int i = to->word_count - 1; i >= 0; i--)
    if (to->words[i].position == position && to->words[i].length == length) {
      to->words[i].end = to->sample_count;
      break;
    }
  return 1;
}

/* Gives a message a virtual table of its own, equal to the library's but for the answer of `frame_ms`. */
static int ask_for_frames(void *message, void **table) {
  void *original = dlsym(RTLD_DEFAULT, "_ZNK7RHVoice6client21get_audio_buffer_sizeEv");
  void **library = *(void ***)message - BEFORE;
  int found = 0;
  memcpy(table, library, ENTRIES * sizeof *table);
  for (int i = BEFORE; i < ENTRIES && !found; i++)
    if (original && table[i] == original) {
      table[i] = (void *)frame_ms;
      found = 1;
    }
  if (found)
    *(void ***)message = table + BEFORE;
  return found;
}

void *riverrun_open(const char *data, const char *config) {
  Setup setup = {.data_path = data, .config_path = config,
                 .callbacks = {.set_sample_rate = take_rate, .play_speech = take_samples,
                               .word_starts = take_start, .word_ends = take_end}};
  return RHVoice_new_tts_engine(&setup);
}

/* 0: spoken; 1: refused, or longer than there is room for; 2: another RHVoice than the one whose client is known here. */
int riverrun_speak(void *engine, const char *text, const char *voice, double rate, double pitch, Recording *recording) {
  Manner manner = {.voice = voice, .rate = rate, .pitch = pitch, .volume = 1};
  void *table[ENTRIES];
  recording->sample_count = recording->word_count = 0;
  void *message = RHVoice_new_message(engine, text, strlen(text), 0, &manner, recording);
  if (!message)
    return 1;
  int status = ask_for_frames(message, table) ? !RHVoice_speak(message) : 2;
  RHVoice_delete_message(message);
  return status;
}
