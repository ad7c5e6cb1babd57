/* fake_nvml.c - a pretend libnvidia-ml.so.1 for developing and measuring GPU
 * monitors on machines that have no GPU.  See README.md.
 *
 * Own definitions throughout; only facts of the public interface (names,
 * argument order, structure layout, numbers of codes) are followed.
 * Everything is computed on demand from (gpu, time): no thread is started,
 * so the library adds nothing to the caller's CPU time between calls.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef unsigned int u32;
typedef unsigned long long u64;

enum { OK = 0, E_UNINIT = 1, E_ARG = 2, E_NOSUP = 3, E_PERM = 4, E_NOTFOUND = 6, E_SIZE = 7,
       E_NODRIVER = 9, E_TIMEOUT = 10, E_FUNC = 13, E_LOST = 15, E_RESET = 16, E_MISMATCH = 18,
       E_NODATA = 21, E_VERSION = 25, E_UNKNOWN = 999 };

#define API __attribute__((visibility("default"))) int
#define MAXGPU 64
#define MIB (1024ULL * 1024ULL)
#define NOT_AVAILABLE (~0ULL)
#define VER(type, n) ((u32)(sizeof(type) | ((u32)(n) << 24)))

/* ------------------------------------------------------------------ layouts */
typedef struct { u64 total, free, used; } mem1_t;
typedef struct { u32 version; u64 total, reserved, free, used; } mem2_t;
typedef struct { u32 gpu, memory; } util_t;
typedef struct { u64 total, free, used; } bar1_t;
typedef struct { u32 pid; u64 used; } proc1_t;
typedef struct { u32 pid; u64 used; u32 gi, ci; } proc2_t;
typedef struct { u32 pid; u64 used; u32 gi, ci; u64 cc; } procdetail_t;
typedef struct { u32 version, mode, n; procdetail_t *arr; } proclist_t;
typedef struct { u32 pid; u64 ts; u32 sm, mem, enc, dec; } procutil_t;
typedef struct { u64 ts; u32 pid, sm, mem, enc, dec, jpg, ofa; } procutil2_t;
typedef struct { u32 version, n; u64 last; procutil2_t *arr; } procutillist_t;
typedef struct { char legacy[16]; u32 domain, bus, device, devid, subid; char id[32]; } pci3_t;
typedef struct { char id[16]; u32 domain, bus, device, devid, subid, res[4]; } pci2_t;
typedef struct { char id[16]; u32 domain, bus, device, devid; } pci1_t;
typedef struct { u32 version, domain, bus, device, devid, subid, base, sub; char id[32]; } pciext_t;
typedef union { double d; int i; u32 u; unsigned long ul; u64 ull; long long ll; unsigned short us; } val_t;
typedef struct { u32 id, scope; long long ts, lat; int type, ret; val_t v; } field_t;
typedef struct { u64 ts; val_t v; } sample_t;
typedef struct { u64 ref, viol; } viol_t;
typedef struct { u64 l1, l2, dev, reg; } ecc_t;
typedef struct { u32 version, sensor; int temp; } tempv_t;
typedef struct { u32 version; int margin; } margin_t;
typedef struct { u32 version; u32 fan, rpm; } fanrpm_t;
typedef struct { u32 max, high, partial, low, none; } rowhist_t;
typedef struct { void *device; u64 type, data; u32 gi, ci; } event_t;
typedef struct { u32 id; int ret; double value; struct { const char *s, *l, *u; } info; } gpmmetric_t;
typedef struct { u32 version, n; void *s1, *s2; gpmmetric_t m[210]; } gpmget_t;
typedef struct { u32 version, supported; } gpmsup_t;
enum { VT_DOUBLE, VT_UINT, VT_ULONG, VT_ULL, VT_LL, VT_INT };

/* ------------------------------------------------------------------- config */
typedef struct dev { u32 magic, i; char name[96], uuid[96], bus[32]; u32 busno; u64 total;
                     double e_acc, e_t; double e2[4], e2_t; } dev_t_;
#define MAGIC 0xfa4e0b01u
static dev_t_ devs[MAXGPU];
/* instances of divided GPUs: `i` is the parent's index, `busno` the instance's number, from 1 */
#define MAXMIG 7
#define MIGMAGIC 0xfa4e0b02u
static dev_t_ migs[MAXGPU][MAXMIG];
static u32 nmig[MAXGPU], mig_rights = 1;
static u32 ngpu = 8, nfan = 1, nlink = 18, seed = 1;
static double power_limit = 700.0;
static char driver[80] = "570.133.20", nvmlver[80] = "12.570.133.20";
static int cuda = 12080, pattern; /* 0 train 1 idle 2 flat 3 max */
static double t0_mono, t0_epoch, timescale = 1.0;
static _Atomic int inits;
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;

typedef struct { int gpu; long pid; double mib; char type; } pspec_t; /* gpu -1: every GPU */
static pspec_t procs[512];
static int nprocs, procs_default = 1;
static long pidlist[MAXGPU];
static int npid;

typedef struct { char kind[24], arg[64]; int gpu, gpu2; double num, t1, t2; _Atomic int fired; } fault_t;
static fault_t faults[32];
static int nfault;

static double mono(void) { struct timespec s; clock_gettime(CLOCK_MONOTONIC, &s); return s.tv_sec + s.tv_nsec * 1e-9; }
static double wall(void) { struct timespec s; clock_gettime(CLOCK_REALTIME, &s); return s.tv_sec + s.tv_nsec * 1e-9; }
static double now(void) { return (t0_epoch > 0 ? wall() - t0_epoch : mono() - t0_mono) * timescale; }
static u64 now_us(void) { return (u64)(wall() * 1e6); }
static void nap(double s) { struct timespec r = { (time_t)s, (long)((s - (time_t)s) * 1e9) }; while (nanosleep(&r, &r) && errno == EINTR) ; }

/* ------------------------------------------------------------ script fields */
enum { F_UTIL, F_MEMUTIL, F_MEM, F_MEMTOTAL, F_TEMP, F_MEMTEMP, F_POWER, F_PLIMIT, F_CGFX, F_CSM, F_CMEM, F_CVID,
       F_TX, F_RX, F_FAN, F_ENC, F_DEC, F_JPG, F_OFA, F_ECCC, F_ECCU, F_THROTTLE, F_PSTATE, F_LINKS, F_LTX, F_LRX,
       F_LERR, F_REMAPC, F_REMAPU, F_REMAPP, F_REPLAY, F_PGEN, F_PWIDTH, F_LOST, F_XID, F_PROCS, NF };
static const char *fname[NF] = { "util", "memutil", "mem", "mem_total", "temp", "memtemp", "power", "power_limit", "clock_gfx",
  "clock_sm", "clock_mem", "clock_video", "pcie_tx", "pcie_rx", "fan", "enc", "dec", "jpg", "ofa", "ecc_corr", "ecc_uncorr",
  "throttle", "pstate", "nvlink_mask", "nvlink_tx", "nvlink_rx", "nvlink_err", "remap_corr", "remap_unc", "remap_pending",
  "pcie_replay", "pcie_gen", "pcie_width", "lost", "xid", "procs" };
typedef struct { double t, v; short gpu, f; char ramp; char *s; int seq; } pt_t;
static pt_t *pts; static int npts; static double script_loop;
static struct { pt_t *p; int n; } curve[NF][MAXGPU]; /* slices of own, sorted arrays */
static char *script_path; static struct timespec script_mt; static off_t script_sz; static double script_chk;

static int ptcmp(const void *a, const void *b) { const pt_t *x = a, *y = b; return x->t < y->t ? -1 : x->t > y->t ? 1 : x->seq - y->seq; }
static void script_load(void) {
  FILE *f = fopen(script_path, "r"); if (!f) { fprintf(stderr, "fake-nvml: cannot read script\n"); return; }
  for (int a = 0; a < NF; a++) for (int g = 0; g < MAXGPU; g++) { free(curve[a][g].p); curve[a][g].p = NULL; curve[a][g].n = 0; }
  pts = NULL; npts = 0; /* strings of earlier loads are kept: callers may still look at them */
  char line[4096]; int cap = 0, ln = 0;
  while (fgets(line, sizeof line, f)) {
    ln++; char *h = strchr(line, '#'); if (h) *h = 0;
    char ts[64], gs[64], fs[64], vs[2048];
    int k = sscanf(line, "%63s %63s %63s %2047s", ts, gs, fs, vs); if (k <= 0) continue;
    int fi = -1; if (k == 4) for (int i = 0; i < NF; i++) if (!strcmp(fs, fname[i])) fi = i;
    if (fi < 0) { fprintf(stderr, "fake-nvml: script line %d not understood\n", ln); continue; }
    if (npts == cap) { cap = cap ? cap * 2 : 256; pts = realloc(pts, cap * sizeof *pts); }
    pt_t *p = &pts[npts]; memset(p, 0, sizeof *p); p->seq = npts++;
    p->t = atof(ts); p->gpu = gs[0] == '*' ? -1 : atoi(gs); p->f = fi; p->ramp = vs[0] == '~';
    p->v = vs[p->ramp ? 1 : 0] == '-' && !vs[p->ramp + 1] ? NAN : strtod(vs + p->ramp, NULL);
    if (!strncasecmp(vs, "0x", 2)) p->v = (double)strtoull(vs, NULL, 16);
    p->s = fi == F_PROCS ? strdup(vs) : NULL;
  }
  fclose(f);
  for (int i = 0; i < npts; i++) for (int g = 0; g < MAXGPU; g++) if (pts[i].gpu < 0 || pts[i].gpu == g) {
    int a = pts[i].f; curve[a][g].p = realloc(curve[a][g].p, (curve[a][g].n + 1) * sizeof(pt_t)); curve[a][g].p[curve[a][g].n++] = pts[i];
  }
  for (int a = 0; a < NF; a++) for (int g = 0; g < MAXGPU; g++) if (curve[a][g].n) qsort(curve[a][g].p, curve[a][g].n, sizeof(pt_t), ptcmp);
  free(pts); pts = NULL;
}
static void script_check(void) { /* reread a script that changed, looked at 10 times a second at most */
  double m = mono(); if (m - script_chk < 0.1) return; script_chk = m;
  struct stat st; if (stat(script_path, &st)) return;
  if (st.st_mtim.tv_sec == script_mt.tv_sec && st.st_mtim.tv_nsec == script_mt.tv_nsec && st.st_size == script_sz) return;
  script_mt = st.st_mtim; script_sz = st.st_size; script_load();
}
/* value of a scripted field, or NAN where the script says nothing (or '-') */
static double scripted(const dev_t_ *d, int f, double t, const char **str) {
  if (!script_path) return NAN;
  pthread_mutex_lock(&mu); script_check();
  if (script_loop > 0) t = fmod(t, script_loop);
  pt_t *p = curve[f][d->i].p; int n = curve[f][d->i].n, lo = 0, hi = n; double r = NAN;
  while (lo < hi) { int m = (lo + hi) / 2; if (p[m].t <= t) lo = m + 1; else hi = m; }
  if (lo > 0) { r = p[lo - 1].v; if (str) *str = p[lo - 1].s; }
  if (lo < n && p[lo].ramp) { double a = lo ? p[lo - 1].t : 0, va = lo ? p[lo - 1].v : 0, w = p[lo].t - a; r = w > 0 ? va + (p[lo].v - va) * (t - a) / w : p[lo].v; }
  pthread_mutex_unlock(&mu);
  return r;
}

/* --------------------------------------------------------------- simulation */
static double rnd(u32 a, u32 b, u32 c) { u64 x = ((u64)seed << 48) ^ ((u64)a << 40) ^ ((u64)c << 32) ^ b; x ^= x >> 33; x *= 0xff51afd7ed558ccdULL; x ^= x >> 33; x *= 0xc4ceb9fe1a85ec53ULL; x ^= x >> 33; return (double)(x >> 11) / 9007199254740992.0; }
static double wob(u32 i, double t, u32 c) { if (t < 0) t = 0; double f = floor(t), w = t - f; w = w * w * (3 - 2 * w); return rnd(i, (u32)f, c) * (1 - w) + rnd(i, (u32)f + 1, c) * w; }
static double clamp(double x, double a, double b) { return x < a ? a : x > b ? b : x; }
static double sim_util(u32 i, double t) {
  if (t < 0) t = 0;
  switch (pattern) { case 1: return 0; case 2: return 87; case 3: return 100; }
  t = floor(t * 6) / 6;                            /* real counters move about six times a second */
  double p = fmod(t + 0.05 * i, 9.0), n = rnd(i, (u32)(t * 6), 1);
  if (p < 5.5) return clamp(93 + 7 * n, 0, 100);   /* generation */
  if (p < 7.6) return clamp(78 + 18 * n, 0, 100);  /* forward, backward */
  if (p < 8.3) return clamp(25 + 40 * n, 0, 100);  /* optimiser, all-gather */
  return clamp(8 * n, 0, 100);                     /* data, logging */
}
static double g(const dev_t_ *d, int f, double t);
static double sim(const dev_t_ *d, int f, double t) {
  u32 i = d->i; double tot = d->total / (double)MIB, live = pattern == 2 ? 0 : 1;
  switch (f) {
  case F_UTIL: return sim_util(i, t);
  case F_MEMUTIL: return floor(g(d, F_UTIL, t) * 0.46 + 3 * live * wob(i, t, 2));
  case F_MEMTOTAL: return tot;
  case F_MEM: if (pattern == 1) return 620; if (pattern == 2) return floor(tot * 0.71); if (pattern == 3) return floor(tot * 0.985);
    { double p = fmod(t, 9.0) / 9.0; return floor(clamp(tot * (0.58 + 0.22 * (p < .6 ? p / .6 : (1 - p) / .4) + 0.04 * wob(i, t, 3) + 0.0004 * fmod(t, 300)), 620, tot - 64)); }
  case F_TEMP: { double a = 0; for (int k = 0; k < 8; k++) a += g(d, F_UTIL, t - k); return floor(36 + (i % 4) * 1.5 + 0.34 * a / 8 + 2 * live * wob(i, t / 3, 4)); }
  case F_MEMTEMP: return g(d, F_TEMP, t) + 9;
  case F_POWER: { double a = 0; for (int k = 0; k < 4; k++) a += g(d, F_UTIL, t - k * .25); return clamp(118 + 5.7 * a / 4 + live * 22 * wob(i, t * 2, 5), 70, g(d, F_PLIMIT, t)); }
  case F_PLIMIT: return power_limit;
  case F_CSM: case F_CGFX: { if (pattern == 1) return 345; double p = g(d, F_POWER, t) / power_limit; return 15 * floor((p > .92 ? 1980 - (p - .92) * 4000 : 1980) / 15); }
  case F_CMEM: return pattern == 1 ? 2619 : 3201;
  case F_CVID: return floor(g(d, F_CSM, t) * 0.79);
  case F_TX: return floor(g(d, F_UTIL, t) * 9000 + live * 450000 * wob(i, t * 3, 6));
  case F_RX: return floor(g(d, F_UTIL, t) * 14000 + live * 900000 * wob(i, t * 3, 7));
  case F_FAN: return clamp(floor(g(d, F_TEMP, t) * 0.9 - 10), 20, 100);
  case F_ENC: case F_DEC: case F_JPG: case F_OFA: return 0;
  case F_ECCC: return i == 5 ? 3 + floor(t / 120) : 0;
  case F_ECCU: case F_LERR: case F_REMAPC: case F_REMAPU: case F_REMAPP: case F_REPLAY: case F_LOST: case F_XID: return 0;
  case F_THROTTLE: { if (g(d, F_UTIL, t) < 1) return 0x1; double r = 0; if (g(d, F_POWER, t) > .97 * g(d, F_PLIMIT, t)) r += 4; if (g(d, F_TEMP, t) >= 87) r += 0x20; return r; }
  case F_PSTATE: return 0;
  case F_LINKS: return nlink >= 52 ? 0xfffffffffffffULL : (double)((1ULL << nlink) - 1);
  case F_LTX: case F_LRX: return floor(g(d, F_UTIL, t) * 1.6e6 + live * 8e6 * wob(i, t * 3, f));  /* KiB/s, all links */
  case F_PGEN: return 5; case F_PWIDTH: return 16;
  } return 0;
}
static double g(const dev_t_ *d, int f, double t) { double s = scripted(d, f, t, NULL); return isnan(s) ? sim(d, f, t) : s; }
static u32 gu(const dev_t_ *d, int f, double t) { double v = g(d, f, t); return v < 0 ? 0 : (u32)v; }

/* counters that only grow: energy (mJ), pcie tx/rx bytes, nvlink tx/rx KiB */
static double grow(dev_t_ *d, int which, double t) {
  pthread_mutex_lock(&mu); double from = d->e2_t; if (t <= from) { double r = which < 0 ? d->e_acc : d->e2[which]; pthread_mutex_unlock(&mu); return r; }
  pthread_mutex_unlock(&mu);
  double dt = 0.25; if ((t - from) / dt > 4000) dt = (t - from) / 4000;
  double e = 0, c[4] = { 0 };
  for (double x = from; x < t; x += dt) { double w = x + dt > t ? t - x : dt, y = x + w / 2; e += w * g(d, F_POWER, y) * 1000;
    c[0] += w * g(d, F_TX, y) * 1024; c[1] += w * g(d, F_RX, y) * 1024; c[2] += w * g(d, F_LTX, y); c[3] += w * g(d, F_LRX, y); }
  pthread_mutex_lock(&mu);
  if (d->e2_t == from) { d->e_acc += e; for (int k = 0; k < 4; k++) d->e2[k] += c[k]; d->e2_t = t; }
  double r = which < 0 ? d->e_acc : d->e2[which]; pthread_mutex_unlock(&mu); return r;
}

/* ---------------------------------------------------------- counts and stats */
typedef struct { const char *name; _Atomic unsigned long n; } __attribute__((aligned(16))) ctr_t;
extern ctr_t __start_fnv_ctr[], __stop_fnv_ctr[];
static char stats_path[512]; static _Atomic long stats_next_ms; static double lib_t0; static pthread_mutex_t smu = PTHREAD_MUTEX_INITIALIZER;
static void stats_write(void) {
  if (!stats_path[0]) return;
  pthread_mutex_lock(&smu);
  static char buf[65536]; unsigned long tot = 0; size_t o = 0;
  for (ctr_t *c = __start_fnv_ctr; c < __stop_fnv_ctr; c++) tot += c->n;
  o += snprintf(buf, sizeof buf, "# pid=%d t=%.6f total=%lu\n", (int)getpid(), mono() - lib_t0, tot);
  for (ctr_t *c = __start_fnv_ctr; c < __stop_fnv_ctr && o < sizeof buf - 128; c++) if (c->n) o += snprintf(buf + o, sizeof buf - o, "%s %lu\n", c->name, (unsigned long)c->n);
  char tmp[560]; snprintf(tmp, sizeof tmp, "%s.%d.tmp", stats_path, (int)getpid());
  int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd >= 0) { ssize_t w = write(fd, buf, o); close(fd); if (w == (ssize_t)o) rename(tmp, stats_path); }
  pthread_mutex_unlock(&smu);
}
static void stats_tick(void) {
  if (!stats_path[0]) return;
  long ms = (long)(mono() * 1000), nx = stats_next_ms;
  if (ms >= nx && atomic_compare_exchange_strong(&stats_next_ms, &nx, ms + 1000)) stats_write();
}

/* ------------------------------------------------------------------- set-up */
static const char *pick(const char *list, u32 i, char *out, size_t n) { /* i-th of a;b;c, the last repeats */
  const char *p = list, *e; for (;;) { e = strchr(p, ';'); if (!e || !i) break; p = e + 1; i--; }
  size_t l = e ? (size_t)(e - p) : strlen(p); if (l >= n) l = n - 1; memcpy(out, p, l); out[l] = 0; return out; }
static int parse_procs(const char *s, pspec_t *o, int max, int gpu) { /* [gpu:]pid:MiB[:T] separated by , or ; */
  int n = 0; char *c = strdup(s), *sv = NULL;
  for (char *w = strtok_r(c, ",;", &sv); w && n < max; w = strtok_r(NULL, ",;", &sv)) {
    char *q[4] = { 0 }; int k = 0; char *sv2 = NULL; for (char *x = strtok_r(w, ":", &sv2); x && k < 4; x = strtok_r(NULL, ":", &sv2)) q[k++] = x;
    int b = 0; pspec_t r = { gpu, 0, -1, 'C' };
    if (gpu == -2) { if (k < 2) continue; r.gpu = q[0][0] == '*' ? -1 : atoi(q[0]); b = 1; }
    if (!q[b] || !strcmp(q[b], "-")) continue;
    r.pid = !strcmp(q[b], "self") ? -1 : !strcmp(q[b], "parent") ? -2 : atol(q[b]);
    if (k > b + 1) r.mib = !strcmp(q[b + 1], "na") ? -2 : atof(q[b + 1]);
    if (k > b + 2) r.type = q[b + 2][0];
    o[n++] = r;
  } free(c); return n; }
static void setup(void) {
  const char *e; t0_mono = mono();
  if ((e = getenv("FAKE_NVML_EPOCH"))) t0_epoch = atof(e);
  if ((e = getenv("FAKE_NVML_TIMESCALE")) && atof(e) > 0) timescale = atof(e);
  if ((e = getenv("FAKE_NVML_SEED"))) seed = atoi(e);
  if ((e = getenv("FAKE_NVML_GPUS"))) { int n = atoi(e); ngpu = n < 0 ? 0 : n > MAXGPU ? MAXGPU : n; }
  if ((e = getenv("FAKE_NVML_FANS"))) nfan = atoi(e);
  if ((e = getenv("FAKE_NVML_NVLINKS"))) nlink = atoi(e) > 18 ? 18 : atoi(e);
  if ((e = getenv("FAKE_NVML_POWER_LIMIT_W"))) power_limit = atof(e);
  if ((e = getenv("FAKE_NVML_DRIVER"))) { snprintf(driver, sizeof driver, "%s", e); snprintf(nvmlver, sizeof nvmlver, "12.%.70s", e); }
  if ((e = getenv("FAKE_NVML_CUDA"))) { int a = 0, b = 0; if (sscanf(e, "%d.%d", &a, &b) == 2) cuda = a * 1000 + b * 10; else cuda = atoi(e); }
  if ((e = getenv("FAKE_NVML_PATTERN"))) pattern = !strcmp(e, "idle") ? 1 : !strcmp(e, "flat") ? 2 : !strcmp(e, "max") ? 3 : 0;
  const char *names = getenv("FAKE_NVML_NAME"), *mems = getenv("FAKE_NVML_MEM_MIB"); char b[96];
  static const unsigned char buses[8] = { 0x1b, 0x43, 0x52, 0x61, 0x9d, 0xc3, 0xd1, 0xdf };
  for (u32 i = 0; i < MAXGPU; i++) { dev_t_ *d = &devs[i]; d->magic = MAGIC; d->i = i;
    snprintf(d->name, sizeof d->name, "%s", pick(names && *names ? names : "NVIDIA H200", i, b, sizeof b));
    d->total = strtoull(pick(mems && *mems ? mems : "143771", i, b, sizeof b), NULL, 10) * MIB;
    d->busno = i < 8 ? buses[i] : (0x05 + 3 * i) & 0xff;
    snprintf(d->bus, sizeof d->bus, "%08X:%02X:00.0", i / 32, d->busno);
    snprintf(d->uuid, sizeof d->uuid, "GPU-fa4e%04x-%04x-4%03x-8%03x-%012llx", i, (u32)(rnd(i, 1, 90) * 65535), (u32)(rnd(i, 2, 90) * 4095), (u32)(rnd(i, 3, 90) * 4095), (u64)(rnd(i, 4, 90) * 281474976710655.0));
    d->e_acc = 4.2e11 + i * 1e9; }
  if ((e = getenv("FAKE_NVML_MIG_RIGHTS"))) mig_rights = atoi(e);
  if ((e = getenv("FAKE_NVML_MIG"))) for (const char *p = e; *p;) { /* GPU:INSTANCES,... */
    u32 gpu = 0, n = 0; int used = 0; if (sscanf(p, "%u:%u%n", &gpu, &n, &used) < 2) break;
    if (gpu < MAXGPU) { nmig[gpu] = n > MAXMIG ? MAXMIG : n;
      for (u32 k = 0; k < nmig[gpu]; k++) { dev_t_ *m = &migs[gpu][k]; *m = devs[gpu]; m->magic = MIGMAGIC; m->busno = k + 1;
        m->total = devs[gpu].total / nmig[gpu]; u32 slices = 7 / nmig[gpu];
        snprintf(m->name, sizeof m->name, "%.60s MIG %ug.%llugb", devs[gpu].name, slices, (unsigned long long)(m->total / MIB / 1000));
        snprintf(m->uuid, sizeof m->uuid, "MIG-fa4e%04x-%04x-5000-8000-%012x", gpu, k + 1, 0x9000 + k); } }
    p += used; if (*p == ',') p++; }
  if ((e = getenv("FAKE_NVML_PID"))) { char *c = strdup(e), *sv = NULL; for (char *w = strtok_r(c, ",;", &sv); w && npid < MAXGPU; w = strtok_r(NULL, ",;", &sv)) pidlist[npid++] = !strcmp(w, "self") ? -1 : !strcmp(w, "parent") ? -2 : atol(w); free(c); }
  if ((e = getenv("FAKE_NVML_PROCS"))) { procs_default = 0; nprocs = parse_procs(e, procs, 512, -2); }
  if ((e = getenv("FAKE_NVML_FAULT"))) { char *c = strdup(e), *sv = NULL;
    for (char *w = strtok_r(c, ",", &sv); w && nfault < 32; w = strtok_r(NULL, ",", &sv)) { /* kind[:a[:b]][/gpu][@t1[-t2]] */
      fault_t *f = &faults[nfault++]; f->gpu = -1; f->t1 = 0; f->t2 = 1e300;
      char *at = strchr(w, '@'); if (at) { *at++ = 0; char *da = strchr(at, '-'); f->t1 = atof(at); if (da) f->t2 = atof(da + 1); }
      char *sl = strchr(w, '/'); if (sl) { *sl = 0; f->gpu = atoi(sl + 1); }
      char *a = strchr(w, ':'); if (a) *a++ = 0;
      snprintf(f->kind, sizeof f->kind, "%s", w); if (!a) continue;
      char *b2 = strchr(a, ':'); if (b2) *b2++ = 0;
      if (!strcmp(w, "gpu_lost") || !strcmp(w, "reset_required")) f->gpu = atoi(a);
      else if (!strcmp(w, "slow") || !strcmp(w, "hang")) { char *u; f->num = strtod(a, &u); f->num *= !strcmp(u, "us") ? 1e-6 : !strcmp(u, "s") ? 1 : 1e-3; if (b2) snprintf(f->arg, sizeof f->arg, "%s", b2); }
      else if (!strcmp(w, "flaky") || !strcmp(w, "error")) { f->num = atof(a); if (b2) snprintf(f->arg, sizeof f->arg, "%s", b2); }
      else snprintf(f->arg, sizeof f->arg, "%s", a); }
    free(c); }
  if ((e = getenv("FAKE_NVML_SCRIPT_LOOP"))) script_loop = atof(e);
  if ((e = getenv("FAKE_NVML_SCRIPT")) && *e) { script_path = strdup(e); pthread_mutex_lock(&mu); script_check(); pthread_mutex_unlock(&mu); }
}
__attribute__((constructor)) static void loaded(void) {
  lib_t0 = mono(); const char *e = getenv("FAKE_NVML_STATS");
  if (e && *e) { size_t o = 0; for (const char *p = e; *p && o < sizeof stats_path - 24; p++) if (p[0] == '%' && p[1] == 'p') { o += sprintf(stats_path + o, "%d", (int)getpid()); p++; } else stats_path[o++] = *p; stats_path[o] = 0; }
}
__attribute__((destructor)) static void unloaded(void) { if (stats_path[0]) { unsigned long n = 0; for (ctr_t *c = __start_fnv_ctr; c < __stop_fnv_ctr; c++) n += c->n; if (n) stats_write(); } }

/* ------------------------------------------------------------------- faults */
enum { K_DEV, K_SYS, K_FREE, K_ANY };
static double init_at = -1; /* when it was last initialised */
static int fault(const char *fn, const char *grp, const dev_t_ *d, int kind) {
  double t = now(); int rc = OK; static _Atomic u32 dice;
  for (int i = 0; i < nfault; i++) { fault_t *f = &faults[i];
    if (t < f->t1 || t >= f->t2) continue;
    int gpu_ok = f->gpu < 0 || (d && (int)d->i == f->gpu);
    int hit = gpu_ok && (!f->arg[0] || !strcmp(f->arg, grp) || !strcmp(f->arg, fn));
    if (!strcmp(f->kind, "slow")) { if (hit && kind != K_FREE) nap(f->num); }
    else if (!strcmp(f->kind, "hang")) { if (hit && kind == K_DEV && !atomic_exchange(&f->fired, 1)) nap(f->num); }
    else if (kind != K_DEV || rc) continue;
    else if (!strcmp(f->kind, "gpu_lost")) { if (gpu_ok && f->gpu >= 0) rc = E_LOST; }
    else if (!strcmp(f->kind, "reset_required")) { if (gpu_ok && f->gpu >= 0) rc = E_RESET; }
    else if (!strcmp(f->kind, "reload")) { if (init_at < f->t1) rc = E_UNKNOWN; }
    else if (!hit) continue;
    else if (!strcmp(f->kind, "not_supported") && f->arg[0]) rc = E_NOSUP;
    else if (!strcmp(f->kind, "no_permission")) rc = E_PERM;
    else if (!strcmp(f->kind, "function_missing") && f->arg[0]) rc = E_FUNC;
    else if (!strcmp(f->kind, "timeout")) rc = E_TIMEOUT;
    else if (!strcmp(f->kind, "error")) rc = (int)f->num;
    else if (!strcmp(f->kind, "flaky")) { if (rnd(77, dice++, 1) < f->num) rc = E_UNKNOWN; }
  }
  if (!rc && d && script_path && g(d, F_LOST, t) >= 1) rc = E_LOST;
  return rc;
}
static int valid(const dev_t_ *d) { return d >= devs && d < devs + ngpu && d->magic == MAGIC; }
static int divided(const dev_t_ *d) { return nmig[d->i] > 0; }
static int instance(const dev_t_ *d) { return (const char *)d >= (const char *)migs && (const char *)d < (const char *)(migs + ngpu) && d->magic == MIGMAGIC; }
static int enter(ctr_t *c, const char *grp, const dev_t_ *d, int kind) {
  atomic_fetch_add_explicit(&c->n, 1, memory_order_relaxed);
  pthread_once(&once, setup);
  stats_tick();
  if (kind == K_FREE) return OK;
  static _Atomic long calls; long nth = atomic_fetch_add(&calls, 1) + 1;
  for (int i = 0; i < nfault; i++) {
    if (!strcmp(faults[i].kind, "crash_at") && nth == atol(faults[i].arg))
      *(volatile int *)16 = 1; /* a real fault: a handler that only returns from raise(SIGSEGV) would go on */
    if (!strcmp(faults[i].kind, "hang_at") && nth == atol(faults[i].arg)) for (;;) pause(); }
  if (inits <= 0) return E_UNINIT;
  if (kind == K_DEV && instance(d)) return E_NOSUP; /* what an instance tells is below */
  if (kind == K_DEV && !valid(d)) return E_ARG;
  if (kind == K_ANY && !valid(d) && !instance(d)) return E_ARG;
  return nfault || script_path ? fault(c->name, grp, kind == K_DEV || kind == K_ANY ? d : NULL, kind == K_ANY ? K_DEV : kind) : OK;
}
#define CTR(fn) static ctr_t ctr_ __attribute__((section("fnv_ctr"), used)) = { #fn, 0 }
#define DEV(fn, grp, h) CTR(fn); dev_t_ *D = (dev_t_ *)(h); { int rc_ = enter(&ctr_, grp, D, K_DEV); if (rc_) return rc_; } double t = now(); (void)t
#define ANY(fn, grp, h) CTR(fn); dev_t_ *D = (dev_t_ *)(h); { int rc_ = enter(&ctr_, grp, D, K_ANY); if (rc_) return rc_; } double t = now(); (void)t
#define SYS(fn) CTR(fn); { int rc_ = enter(&ctr_, "system", NULL, K_SYS); if (rc_) return rc_; }
#define NEED(p) do { if (!(p)) return E_ARG; } while (0)
static int put(char *o, u32 n, const char *s) { NEED(o); if (strlen(s) + 1 > n) return E_SIZE; strcpy(o, s); return OK; }

/* --------------------------------------------------------------- life cycle */
static int do_init(ctr_t *c) {
  enter(c, "init", NULL, K_FREE);
  for (int i = 0; i < nfault; i++) { const char *k = faults[i].kind; double t = now(); if (t < faults[i].t1 || t >= faults[i].t2) continue;
    if (!strcmp(k, "slow_init")) nap(faults[i].arg[0] ? atof(faults[i].arg) / 1000 : 1);
    if (!strcmp(k, "init_fail")) return E_UNKNOWN;
    if (!strcmp(k, "driver_not_loaded")) return E_NODRIVER;
    if (!strcmp(k, "lib_mismatch")) return E_MISMATCH;
    if (!strcmp(k, "init_no_permission")) return E_PERM; }
  init_at = now(); inits++; return OK;
}
API nvmlInit_v2(void) { CTR(nvmlInit_v2); return do_init(&ctr_); }
API nvmlInit(void) { CTR(nvmlInit); return do_init(&ctr_); }
API nvmlInitWithFlags(u32 fl) { CTR(nvmlInitWithFlags); (void)fl; return do_init(&ctr_); }
API nvmlShutdown(void) { CTR(nvmlShutdown); enter(&ctr_, "init", NULL, K_FREE); if (inits <= 0) return E_UNINIT; if (--inits == 0) stats_write(); return OK; }
__attribute__((visibility("default"))) const char *nvmlErrorString(int r) {
  CTR(nvmlErrorString); enter(&ctr_, "init", NULL, K_FREE);
  switch (r) { case 0: return "Success"; case 1: return "Uninitialized"; case 2: return "Invalid Argument"; case 3: return "Not Supported";
  case 4: return "Insufficient Permissions"; case 5: return "Already Initialized"; case 6: return "Not Found"; case 7: return "Insufficient Size";
  case 8: return "Insufficient External Power"; case 9: return "Driver Not Loaded"; case 10: return "Timeout"; case 11: return "Interrupt Request Issue";
  case 12: return "NVML Shared Library Not Found"; case 13: return "Function Not Found"; case 14: return "Corrupted infoROM"; case 15: return "GPU is lost";
  case 16: return "GPU requires reset"; case 17: return "Operating system blocked the request"; case 18: return "Driver/library version mismatch";
  case 19: return "In use by another client"; case 20: return "Insufficient Memory"; case 21: return "No data"; case 25: return "Argument version mismatch"; }
  return "Unknown Error";
}

/* ------------------------------------------------------------------- system */
API nvmlSystemGetDriverVersion(char *o, u32 n) { SYS(nvmlSystemGetDriverVersion); return put(o, n, driver); }
API nvmlSystemGetNVMLVersion(char *o, u32 n) { SYS(nvmlSystemGetNVMLVersion); return put(o, n, nvmlver); }
API nvmlSystemGetCudaDriverVersion(int *o) { SYS(nvmlSystemGetCudaDriverVersion); NEED(o); *o = cuda; return OK; }
API nvmlSystemGetCudaDriverVersion_v2(int *o) { SYS(nvmlSystemGetCudaDriverVersion_v2); NEED(o); *o = cuda; return OK; }
API nvmlSystemGetProcessName(u32 pid, char *o, u32 n) {
  SYS(nvmlSystemGetProcessName); NEED(o && n); char p[64], b[4096]; snprintf(p, sizeof p, "/proc/%u/cmdline", pid);
  int fd = open(p, O_RDONLY | O_CLOEXEC); if (fd < 0) return E_NOTFOUND; ssize_t r = read(fd, b, sizeof b - 1); close(fd); if (r <= 0) return E_NOTFOUND;
  for (ssize_t i = 0; i < r - 1; i++) if (!b[i]) b[i] = ' '; b[r] = 0; if (strlen(b) >= n) b[n - 1] = 0; strcpy(o, b); return OK; }
API nvmlSystemGetHicVersion(u32 *n, void *e) { SYS(nvmlSystemGetHicVersion); (void)e; NEED(n); *n = 0; return OK; }
API nvmlSystemGetTopologyGpuSet(u32 cpu, u32 *n, void **a) { SYS(nvmlSystemGetTopologyGpuSet); (void)cpu; NEED(n); if (a) for (u32 i = 0; i < ngpu && i < *n; i++) a[i] = &devs[i]; *n = ngpu; return OK; }
API nvmlUnitGetCount(u32 *n) { SYS(nvmlUnitGetCount); NEED(n); *n = 0; return OK; }
API nvmlGetExcludedDeviceCount(u32 *n) { SYS(nvmlGetExcludedDeviceCount); NEED(n); *n = 0; return OK; }

/* ------------------------------------------------------------ finding devices */
API nvmlDeviceGetCount_v2(u32 *n) { SYS(nvmlDeviceGetCount_v2); NEED(n); *n = ngpu; return OK; }
API nvmlDeviceGetCount(u32 *n) { SYS(nvmlDeviceGetCount); NEED(n); *n = ngpu; return OK; }
static int handle(ctr_t *c, u32 i, void **o) { int rc = enter(c, "handle", NULL, K_SYS); if (rc) return rc; NEED(o); if (i >= ngpu) return E_ARG; rc = nfault || script_path ? fault(c->name, "handle", &devs[i], K_DEV) : OK; if (!rc) *o = &devs[i]; return rc; }
API nvmlDeviceGetHandleByIndex_v2(u32 i, void **o) { CTR(nvmlDeviceGetHandleByIndex_v2); return handle(&ctr_, i, o); }
API nvmlDeviceGetHandleByIndex(u32 i, void **o) { CTR(nvmlDeviceGetHandleByIndex); return handle(&ctr_, i, o); }
API nvmlDeviceGetHandleByUUID(const char *u, void **o) { CTR(nvmlDeviceGetHandleByUUID); NEED(u); for (u32 i = 0; i < ngpu; i++) if (!strcmp(devs[i].uuid, u)) return handle(&ctr_, i, o); int rc = enter(&ctr_, "handle", NULL, K_SYS); return rc ? rc : E_NOTFOUND; }
API nvmlDeviceGetHandleBySerial(const char *s, void **o) { CTR(nvmlDeviceGetHandleBySerial); NEED(s); char b[32]; for (u32 i = 0; i < ngpu; i++) { snprintf(b, sizeof b, "1653424%06u", i); if (!strcmp(b, s)) return handle(&ctr_, i, o); } int rc = enter(&ctr_, "handle", NULL, K_SYS); return rc ? rc : E_NOTFOUND; }
static int bypci(ctr_t *c, const char *p, void **o) { NEED(p); u32 d, b, v; if (sscanf(p, "%x:%x:%x", &d, &b, &v) != 3) d = 0; for (u32 i = 0; i < ngpu; i++) if (d == i / 32 && b == devs[i].busno) return handle(c, i, o); int rc = enter(c, "handle", NULL, K_SYS); return rc ? rc : E_NOTFOUND; }
API nvmlDeviceGetHandleByPciBusId_v2(const char *p, void **o) { CTR(nvmlDeviceGetHandleByPciBusId_v2); return bypci(&ctr_, p, o); }
API nvmlDeviceGetHandleByPciBusId(const char *p, void **o) { CTR(nvmlDeviceGetHandleByPciBusId); return bypci(&ctr_, p, o); }

/* ----------------------------------------------------------------- identity */
API nvmlDeviceGetIndex(void *h, u32 *o) { DEV(nvmlDeviceGetIndex, "id", h); NEED(o); *o = D->i; return OK; }
API nvmlDeviceGetName(void *h, char *o, u32 n) { ANY(nvmlDeviceGetName, "name", h); return put(o, n, D->name); }
API nvmlDeviceGetUUID(void *h, char *o, u32 n) { ANY(nvmlDeviceGetUUID, "uuid", h); return put(o, n, D->uuid); }
API nvmlDeviceGetSerial(void *h, char *o, u32 n) { DEV(nvmlDeviceGetSerial, "id", h); char b[32]; snprintf(b, sizeof b, "1653424%06u", D->i); return put(o, n, b); }
API nvmlDeviceGetMinorNumber(void *h, u32 *o) { DEV(nvmlDeviceGetMinorNumber, "id", h); NEED(o); *o = D->i; return OK; }
API nvmlDeviceGetModuleId(void *h, u32 *o) { DEV(nvmlDeviceGetModuleId, "id", h); NEED(o); *o = D->i + 1; return OK; }
API nvmlDeviceGetBoardId(void *h, u32 *o) { DEV(nvmlDeviceGetBoardId, "id", h); NEED(o); *o = D->busno << 8; return OK; }
API nvmlDeviceGetBoardPartNumber(void *h, char *o, u32 n) { DEV(nvmlDeviceGetBoardPartNumber, "id", h); return put(o, n, "692-FAKE0-0000-000"); }
API nvmlDeviceGetVbiosVersion(void *h, char *o, u32 n) { DEV(nvmlDeviceGetVbiosVersion, "id", h); return put(o, n, "96.00.FA.4E.00"); }
API nvmlDeviceGetInforomImageVersion(void *h, char *o, u32 n) { DEV(nvmlDeviceGetInforomImageVersion, "id", h); return put(o, n, "G520.0200.00.05"); }
API nvmlDeviceGetInforomVersion(void *h, u32 k, char *o, u32 n) { DEV(nvmlDeviceGetInforomVersion, "id", h); return k > 2 ? E_NOSUP : put(o, n, k == 0 ? "2.1" : "7.16"); }
API nvmlDeviceGetInforomConfigurationChecksum(void *h, u32 *o) { DEV(nvmlDeviceGetInforomConfigurationChecksum, "id", h); NEED(o); *o = 0xfa4e; return OK; }
API nvmlDeviceValidateInforom(void *h) { DEV(nvmlDeviceValidateInforom, "id", h); return OK; }
API nvmlDeviceGetBrand(void *h, u32 *o) { DEV(nvmlDeviceGetBrand, "id", h); NEED(o); *o = 14; return OK; }
API nvmlDeviceGetArchitecture(void *h, u32 *o) { DEV(nvmlDeviceGetArchitecture, "id", h); NEED(o); *o = 9; return OK; }
API nvmlDeviceGetCudaComputeCapability(void *h, int *a, int *b) { DEV(nvmlDeviceGetCudaComputeCapability, "id", h); NEED(a && b); *a = 9; *b = 0; return OK; }
API nvmlDeviceGetNumGpuCores(void *h, u32 *o) { DEV(nvmlDeviceGetNumGpuCores, "id", h); NEED(o); *o = 16896; return OK; }
API nvmlDeviceGetMemoryBusWidth(void *h, u32 *o) { DEV(nvmlDeviceGetMemoryBusWidth, "id", h); NEED(o); *o = 6144; return OK; }
API nvmlDeviceGetIrqNum(void *h, u32 *o) { DEV(nvmlDeviceGetIrqNum, "id", h); NEED(o); *o = 200 + D->i; return OK; }
API nvmlDeviceGetBusType(void *h, u32 *o) { DEV(nvmlDeviceGetBusType, "pci", h); NEED(o); *o = 2; return OK; }
API nvmlDeviceGetPowerSource(void *h, u32 *o) { DEV(nvmlDeviceGetPowerSource, "power", h); NEED(o); *o = 0; return OK; }
API nvmlDeviceGetMultiGpuBoard(void *h, u32 *o) { DEV(nvmlDeviceGetMultiGpuBoard, "id", h); NEED(o); *o = 0; return OK; }
API nvmlDeviceOnSameBoard(void *h, void *b, int *o) { DEV(nvmlDeviceOnSameBoard, "id", h); NEED(o && valid(b)); *o = h == b; return OK; }
API nvmlDeviceGetDisplayActive(void *h, u32 *o) { DEV(nvmlDeviceGetDisplayActive, "mode", h); NEED(o); *o = 0; return OK; }
API nvmlDeviceGetDisplayMode(void *h, u32 *o) { DEV(nvmlDeviceGetDisplayMode, "mode", h); NEED(o); *o = 0; return OK; }
API nvmlDeviceGetPersistenceMode(void *h, u32 *o) { DEV(nvmlDeviceGetPersistenceMode, "mode", h); NEED(o); *o = 1; return OK; }
API nvmlDeviceGetComputeMode(void *h, u32 *o) { DEV(nvmlDeviceGetComputeMode, "mode", h); NEED(o); *o = 0; return OK; }
API nvmlDeviceGetVirtualizationMode(void *h, u32 *o) { DEV(nvmlDeviceGetVirtualizationMode, "mode", h); NEED(o); *o = 0; return OK; }
API nvmlDeviceGetAccountingMode(void *h, u32 *o) { DEV(nvmlDeviceGetAccountingMode, "mode", h); NEED(o); *o = 0; return OK; }
API nvmlDeviceGetAccountingPids(void *h, u32 *n, u32 *p) { DEV(nvmlDeviceGetAccountingPids, "mode", h); (void)p; NEED(n); *n = 0; return OK; }
API nvmlDeviceGetAccountingBufferSize(void *h, u32 *n) { DEV(nvmlDeviceGetAccountingBufferSize, "mode", h); NEED(n); *n = 4000; return OK; }
API nvmlDeviceGetGspFirmwareMode(void *h, u32 *a, u32 *b) { DEV(nvmlDeviceGetGspFirmwareMode, "id", h); NEED(a && b); *a = *b = 1; return OK; }
API nvmlDeviceGetGspFirmwareVersion(void *h, char *o) { DEV(nvmlDeviceGetGspFirmwareVersion, "id", h); NEED(o); strcpy(o, driver); return OK; }
API nvmlDeviceGetNumaNodeId(void *h, u32 *o) { DEV(nvmlDeviceGetNumaNodeId, "topology", h); NEED(o); *o = D->i * 2 >= ngpu; return OK; }
static int affinity(dev_t_ *D, u32 n, unsigned long *s) { NEED(s && n); memset(s, 0, n * sizeof *s); int hi = D->i * 2 >= ngpu; for (u32 b = 0; b < 48; b++) { u32 c = b + (hi ? 48 : 0); if (c / 64 < n) s[c / 64] |= 1UL << (c % 64); } return OK; }
API nvmlDeviceGetCpuAffinity(void *h, u32 n, unsigned long *s) { DEV(nvmlDeviceGetCpuAffinity, "topology", h); return affinity(D, n, s); }
API nvmlDeviceGetCpuAffinityWithinScope(void *h, u32 n, unsigned long *s, u32 sc) { DEV(nvmlDeviceGetCpuAffinityWithinScope, "topology", h); (void)sc; return affinity(D, n, s); }
API nvmlDeviceGetMemoryAffinity(void *h, u32 n, unsigned long *s, u32 sc) { DEV(nvmlDeviceGetMemoryAffinity, "topology", h); (void)sc; NEED(s && n); memset(s, 0, n * sizeof *s); s[0] = D->i * 2 >= ngpu ? 2 : 1; return OK; }
static u32 level(u32 a, u32 b) { return a == b ? 0 : (a * 2 >= ngpu) == (b * 2 >= ngpu) ? 40 : 50; }
API nvmlDeviceGetTopologyCommonAncestor(void *h, void *b, u32 *o) { DEV(nvmlDeviceGetTopologyCommonAncestor, "topology", h); NEED(o && valid(b)); *o = level(D->i, ((dev_t_ *)b)->i); return OK; }
API nvmlDeviceGetTopologyNearestGpus(void *h, u32 lv, u32 *n, void **a) { DEV(nvmlDeviceGetTopologyNearestGpus, "topology", h); NEED(n); u32 k = 0; for (u32 i = 0; i < ngpu; i++) if (i != D->i && level(D->i, i) == lv) { if (a && k < *n) a[k] = &devs[i]; k++; } *n = k; return OK; }
API nvmlDeviceGetP2PStatus(void *h, void *b, u32 k, u32 *o) { DEV(nvmlDeviceGetP2PStatus, "topology", h); (void)k; NEED(o && valid(b)); *o = 0; return OK; }

/* ---------------------------------------------------------------------- pci */
static void busid(const dev_t_ *D, char *s16, char *s32) { if (s16) snprintf(s16, 16, "%04X:%02X:00.0", D->i / 32, D->busno & 0xff); if (s32) strcpy(s32, D->bus); }
static void pci3(const dev_t_ *D, pci3_t *o) { memset(o, 0, sizeof *o); busid(D, o->legacy, o->id); o->domain = D->i / 32; o->bus = D->busno; o->devid = 0x233510de; o->subid = 0x18be10de; }
API nvmlDeviceGetPciInfo_v3(void *h, pci3_t *o) { DEV(nvmlDeviceGetPciInfo_v3, "pci", h); NEED(o); pci3(D, o); return OK; }
API nvmlDeviceGetPciInfo_v2(void *h, pci2_t *o) { DEV(nvmlDeviceGetPciInfo_v2, "pci", h); NEED(o); memset(o, 0, sizeof *o); busid(D, o->id, NULL); o->domain = D->i / 32; o->bus = D->busno; o->devid = 0x233510de; o->subid = 0x18be10de; return OK; }
API nvmlDeviceGetPciInfo(void *h, pci1_t *o) { DEV(nvmlDeviceGetPciInfo, "pci", h); NEED(o); memset(o, 0, sizeof *o); busid(D, o->id, NULL); o->domain = D->i / 32; o->bus = D->busno; o->devid = 0x233510de; return OK; }
API nvmlDeviceGetPciInfoExt(void *h, pciext_t *o) { DEV(nvmlDeviceGetPciInfoExt, "pci", h); NEED(o); u32 v = o->version; if (v != VER(pciext_t, 1)) return E_VERSION; memset(o, 0, sizeof *o); o->version = v; busid(D, NULL, o->id); o->domain = D->i / 32; o->bus = D->busno; o->devid = 0x233510de; o->subid = 0x18be10de; o->base = 3; o->sub = 2; return OK; }
API nvmlDeviceGetCurrPcieLinkGeneration(void *h, u32 *o) { DEV(nvmlDeviceGetCurrPcieLinkGeneration, "pcie", h); NEED(o); *o = gu(D, F_PGEN, t); return OK; }
API nvmlDeviceGetCurrPcieLinkWidth(void *h, u32 *o) { DEV(nvmlDeviceGetCurrPcieLinkWidth, "pcie", h); NEED(o); *o = gu(D, F_PWIDTH, t); return OK; }
API nvmlDeviceGetMaxPcieLinkGeneration(void *h, u32 *o) { DEV(nvmlDeviceGetMaxPcieLinkGeneration, "pcie", h); NEED(o); *o = 5; return OK; }
API nvmlDeviceGetGpuMaxPcieLinkGeneration(void *h, u32 *o) { DEV(nvmlDeviceGetGpuMaxPcieLinkGeneration, "pcie", h); NEED(o); *o = 5; return OK; }
API nvmlDeviceGetMaxPcieLinkWidth(void *h, u32 *o) { DEV(nvmlDeviceGetMaxPcieLinkWidth, "pcie", h); NEED(o); *o = 16; return OK; }
API nvmlDeviceGetPcieLinkMaxSpeed(void *h, u32 *o) { DEV(nvmlDeviceGetPcieLinkMaxSpeed, "pcie", h); NEED(o); *o = 5; return OK; }
API nvmlDeviceGetPcieSpeed(void *h, u32 *o) { DEV(nvmlDeviceGetPcieSpeed, "pcie", h); NEED(o); *o = 32000; return OK; }
API nvmlDeviceGetPcieThroughput(void *h, u32 c, u32 *o) { DEV(nvmlDeviceGetPcieThroughput, "pcie", h); NEED(o && c < 2); *o = gu(D, c ? F_RX : F_TX, t); return OK; }
API nvmlDeviceGetPcieReplayCounter(void *h, u32 *o) { DEV(nvmlDeviceGetPcieReplayCounter, "pcie", h); NEED(o); *o = gu(D, F_REPLAY, t); return OK; }

/* ------------------------------------------------------- load, memory, heat */
API nvmlDeviceGetUtilizationRates(void *h, util_t *o) { DEV(nvmlDeviceGetUtilizationRates, "util", h); NEED(o); if (divided(D)) return E_NOSUP; o->gpu = gu(D, F_UTIL, t); o->memory = gu(D, F_MEMUTIL, t); return OK; }
static int two(u32 v, u32 *o, u32 *p) { NEED(o && p); *o = v; *p = 167000; return OK; }
API nvmlDeviceGetEncoderUtilization(void *h, u32 *o, u32 *p) { DEV(nvmlDeviceGetEncoderUtilization, "encoder", h); return two(gu(D, F_ENC, t), o, p); }
API nvmlDeviceGetDecoderUtilization(void *h, u32 *o, u32 *p) { DEV(nvmlDeviceGetDecoderUtilization, "decoder", h); return two(gu(D, F_DEC, t), o, p); }
API nvmlDeviceGetJpgUtilization(void *h, u32 *o, u32 *p) { DEV(nvmlDeviceGetJpgUtilization, "decoder", h); return two(gu(D, F_JPG, t), o, p); }
API nvmlDeviceGetOfaUtilization(void *h, u32 *o, u32 *p) { DEV(nvmlDeviceGetOfaUtilization, "decoder", h); return two(gu(D, F_OFA, t), o, p); }
API nvmlDeviceGetEncoderStats(void *h, u32 *a, u32 *b, u32 *c) { DEV(nvmlDeviceGetEncoderStats, "encoder", h); NEED(a && b && c); *a = *b = *c = 0; return OK; }
API nvmlDeviceGetEncoderSessions(void *h, u32 *n, void *a) { DEV(nvmlDeviceGetEncoderSessions, "encoder", h); (void)a; NEED(n); *n = 0; return OK; }
/* of an instance: its part of what the card uses, the later ones more */
static u64 mem_used(dev_t_ *D, double t) { if (instance(D)) { u32 n = nmig[D->i]; u64 u = mem_used(&devs[D->i], t) / (n * (n + 1) / 2) * D->busno; return u > D->total ? D->total : u; } double m = g(D, F_MEM, t); u64 u = m <= 0 ? 0 : (u64)(m * MIB), tot = (u64)(g(D, F_MEMTOTAL, t) * MIB); return u > tot ? tot : u; }
API nvmlDeviceGetMemoryInfo(void *h, mem1_t *o) { ANY(nvmlDeviceGetMemoryInfo, "mem", h); NEED(o); o->total = (u64)(g(D, F_MEMTOTAL, t) * MIB); o->used = mem_used(D, t); o->free = o->total - o->used; return OK; }
API nvmlDeviceGetMemoryInfo_v2(void *h, mem2_t *o) { ANY(nvmlDeviceGetMemoryInfo_v2, "mem", h); NEED(o); if (o->version != VER(mem2_t, 2)) return E_VERSION; u64 u = mem_used(D, t); o->total = (u64)(g(D, F_MEMTOTAL, t) * MIB); o->reserved = 600 * MIB < u ? 600 * MIB : u; o->used = u - o->reserved; o->free = o->total - u; return OK; }
API nvmlDeviceGetBAR1MemoryInfo(void *h, bar1_t *o) { DEV(nvmlDeviceGetBAR1MemoryInfo, "mem", h); NEED(o); o->total = 262144 * MIB; o->used = 12 * MIB; o->free = o->total - o->used; return OK; }
API nvmlDeviceGetTemperature(void *h, u32 s, u32 *o) { DEV(nvmlDeviceGetTemperature, "temp", h); NEED(o); if (s) return E_ARG; *o = gu(D, F_TEMP, t); return OK; }
API nvmlDeviceGetTemperatureV(void *h, tempv_t *o) { DEV(nvmlDeviceGetTemperatureV, "temp", h); NEED(o); if (o->version != VER(tempv_t, 1)) return E_VERSION; if (o->sensor) return E_ARG; o->temp = (int)gu(D, F_TEMP, t); return OK; }
API nvmlDeviceGetMarginTemperature(void *h, margin_t *o) { DEV(nvmlDeviceGetMarginTemperature, "temp", h); NEED(o); if (o->version != VER(margin_t, 1)) return E_VERSION; o->margin = 87 - (int)gu(D, F_TEMP, t); return OK; }
API nvmlDeviceGetTemperatureThreshold(void *h, u32 k, u32 *o) { DEV(nvmlDeviceGetTemperatureThreshold, "temp", h); NEED(o); static const u32 v[4] = { 92, 89, 95, 87 }; if (k > 3) return E_NOSUP; *o = v[k]; return OK; }
API nvmlDeviceGetNumFans(void *h, u32 *o) { DEV(nvmlDeviceGetNumFans, "fan", h); NEED(o); if (!nfan) return E_NOSUP; *o = nfan; return OK; }
API nvmlDeviceGetFanSpeed(void *h, u32 *o) { DEV(nvmlDeviceGetFanSpeed, "fan", h); NEED(o); if (!nfan) return E_NOSUP; *o = gu(D, F_FAN, t); return OK; }
API nvmlDeviceGetFanSpeed_v2(void *h, u32 f, u32 *o) { DEV(nvmlDeviceGetFanSpeed_v2, "fan", h); NEED(o); if (!nfan) return E_NOSUP; if (f >= nfan) return E_ARG; *o = gu(D, F_FAN, t); return OK; }
API nvmlDeviceGetTargetFanSpeed(void *h, u32 f, u32 *o) { DEV(nvmlDeviceGetTargetFanSpeed, "fan", h); NEED(o); if (!nfan) return E_NOSUP; if (f >= nfan) return E_ARG; *o = gu(D, F_FAN, t); return OK; }
API nvmlDeviceGetMinMaxFanSpeed(void *h, u32 *a, u32 *b) { DEV(nvmlDeviceGetMinMaxFanSpeed, "fan", h); NEED(a && b); if (!nfan) return E_NOSUP; *a = 20; *b = 100; return OK; }
API nvmlDeviceGetFanControlPolicy_v2(void *h, u32 f, u32 *o) { DEV(nvmlDeviceGetFanControlPolicy_v2, "fan", h); NEED(o); if (!nfan) return E_NOSUP; if (f >= nfan) return E_ARG; *o = 0; return OK; }
API nvmlDeviceGetFanSpeedRPM(void *h, fanrpm_t *o) { DEV(nvmlDeviceGetFanSpeedRPM, "fan", h); NEED(o); if (!nfan) return E_NOSUP; if (o->version != VER(fanrpm_t, 1)) return E_VERSION; o->rpm = gu(D, F_FAN, t) * 32; return OK; }

/* ----------------------------------------------------------- power and clocks */
static u32 mw(double w) { return w < 0 ? 0 : (u32)(w * 1000); }
API nvmlDeviceGetPowerUsage(void *h, u32 *o) { DEV(nvmlDeviceGetPowerUsage, "power", h); NEED(o); *o = mw(g(D, F_POWER, t)); return OK; }
API nvmlDeviceGetEnforcedPowerLimit(void *h, u32 *o) { DEV(nvmlDeviceGetEnforcedPowerLimit, "power_limit", h); NEED(o); *o = mw(g(D, F_PLIMIT, t)); return OK; }
API nvmlDeviceGetPowerManagementLimit(void *h, u32 *o) { DEV(nvmlDeviceGetPowerManagementLimit, "power_limit", h); NEED(o); *o = mw(g(D, F_PLIMIT, t)); return OK; }
API nvmlDeviceGetPowerManagementDefaultLimit(void *h, u32 *o) { DEV(nvmlDeviceGetPowerManagementDefaultLimit, "power_limit", h); NEED(o); *o = mw(power_limit); return OK; }
API nvmlDeviceGetPowerManagementLimitConstraints(void *h, u32 *a, u32 *b) { DEV(nvmlDeviceGetPowerManagementLimitConstraints, "power_limit", h); NEED(a && b); *a = mw(power_limit * 2 / 7); *b = mw(power_limit); return OK; }
API nvmlDeviceGetPowerManagementMode(void *h, u32 *o) { DEV(nvmlDeviceGetPowerManagementMode, "power_limit", h); NEED(o); *o = 1; return OK; }
API nvmlDeviceGetTotalEnergyConsumption(void *h, u64 *o) { DEV(nvmlDeviceGetTotalEnergyConsumption, "energy", h); NEED(o); *o = (u64)grow(D, -1, t); return OK; }
API nvmlDeviceGetPowerState(void *h, u32 *o) { DEV(nvmlDeviceGetPowerState, "pstate", h); NEED(o); *o = gu(D, F_PSTATE, t); return OK; }
API nvmlDeviceGetPerformanceState(void *h, u32 *o) { DEV(nvmlDeviceGetPerformanceState, "pstate", h); NEED(o); *o = gu(D, F_PSTATE, t); return OK; }
API nvmlDeviceGetSupportedPerformanceStates(void *h, u32 *o, u32 n) { DEV(nvmlDeviceGetSupportedPerformanceStates, "pstate", h); NEED(o); for (u32 i = 0; i < n / 4; i++) o[i] = i == 0 ? 0 : 32; return OK; }
static const int clkf[4] = { F_CGFX, F_CSM, F_CMEM, F_CVID }; static const u32 clkmax[4] = { 1980, 1980, 3201, 1545 };
API nvmlDeviceGetClockInfo(void *h, u32 k, u32 *o) { DEV(nvmlDeviceGetClockInfo, "clock", h); NEED(o && k < 4); *o = gu(D, clkf[k], t); return OK; }
API nvmlDeviceGetMaxClockInfo(void *h, u32 k, u32 *o) { DEV(nvmlDeviceGetMaxClockInfo, "clock", h); NEED(o && k < 4); *o = clkmax[k]; return OK; }
API nvmlDeviceGetClock(void *h, u32 k, u32 id, u32 *o) { DEV(nvmlDeviceGetClock, "clock", h); NEED(o && k < 4 && id < 4); *o = id == 0 ? gu(D, clkf[k], t) : clkmax[k]; return OK; }
API nvmlDeviceGetApplicationsClock(void *h, u32 k, u32 *o) { DEV(nvmlDeviceGetApplicationsClock, "clock", h); NEED(o && k < 4); if (k == 3) return E_NOSUP; *o = clkmax[k]; return OK; }
API nvmlDeviceGetDefaultApplicationsClock(void *h, u32 k, u32 *o) { DEV(nvmlDeviceGetDefaultApplicationsClock, "clock", h); NEED(o && k < 4); if (k == 3) return E_NOSUP; *o = clkmax[k]; return OK; }
API nvmlDeviceGetMaxCustomerBoostClock(void *h, u32 k, u32 *o) { DEV(nvmlDeviceGetMaxCustomerBoostClock, "clock", h); NEED(o && k < 4); *o = clkmax[k]; return OK; }
API nvmlDeviceGetMinMaxClockOfPState(void *h, u32 k, u32 p, u32 *a, u32 *b) { DEV(nvmlDeviceGetMinMaxClockOfPState, "clock", h); NEED(a && b && k < 4); if (p) return E_NOSUP; *a = k == 2 ? 2619 : 345; *b = clkmax[k]; return OK; }
static int list(const u32 *v, u32 k, u32 *n, u32 *o) { NEED(n); if (!o || *n < k) { *n = k; return E_SIZE; } memcpy(o, v, k * sizeof *v); *n = k; return OK; }
API nvmlDeviceGetSupportedMemoryClocks(void *h, u32 *n, u32 *o) { DEV(nvmlDeviceGetSupportedMemoryClocks, "clock", h); static const u32 v[2] = { 3201, 2619 }; return list(v, 2, n, o); }
API nvmlDeviceGetSupportedGraphicsClocks(void *h, u32 m, u32 *n, u32 *o) { DEV(nvmlDeviceGetSupportedGraphicsClocks, "clock", h); (void)m; u32 v[110]; for (u32 i = 0; i < 110; i++) v[i] = 1980 - 15 * i; return list(v, 110, n, o); }
API nvmlDeviceGetAutoBoostedClocksEnabled(void *h, u32 *a, u32 *b) { DEV(nvmlDeviceGetAutoBoostedClocksEnabled, "clock", h); (void)a; (void)b; return E_NOSUP; }
API nvmlDeviceGetCurrentClocksThrottleReasons(void *h, u64 *o) { DEV(nvmlDeviceGetCurrentClocksThrottleReasons, "throttle", h); NEED(o); *o = (u64)g(D, F_THROTTLE, t); return OK; }
API nvmlDeviceGetCurrentClocksEventReasons(void *h, u64 *o) { DEV(nvmlDeviceGetCurrentClocksEventReasons, "throttle", h); NEED(o); *o = (u64)g(D, F_THROTTLE, t); return OK; }
API nvmlDeviceGetSupportedClocksThrottleReasons(void *h, u64 *o) { DEV(nvmlDeviceGetSupportedClocksThrottleReasons, "throttle", h); NEED(o); *o = 0x1ff; return OK; }
API nvmlDeviceGetSupportedClocksEventReasons(void *h, u64 *o) { DEV(nvmlDeviceGetSupportedClocksEventReasons, "throttle", h); NEED(o); *o = 0x1ff; return OK; }
API nvmlDeviceGetViolationStatus(void *h, u32 k, viol_t *o) { DEV(nvmlDeviceGetViolationStatus, "throttle", h); NEED(o); o->ref = now_us(); o->viol = k == 0 ? (u64)(t * 2.1e7) : 0; return OK; }

/* ---------------------------------------------------------------------- ecc */
static u64 eccn(dev_t_ *D, u32 err, double t) { return (u64)g(D, err ? F_ECCU : F_ECCC, t); }
API nvmlDeviceGetEccMode(void *h, u32 *a, u32 *b) { DEV(nvmlDeviceGetEccMode, "ecc", h); NEED(a && b); *a = *b = 1; return OK; }
API nvmlDeviceGetDefaultEccMode(void *h, u32 *a) { DEV(nvmlDeviceGetDefaultEccMode, "ecc", h); NEED(a); *a = 1; return OK; }
API nvmlDeviceGetTotalEccErrors(void *h, u32 e, u32 c, u64 *o) { DEV(nvmlDeviceGetTotalEccErrors, "ecc", h); NEED(o && e < 2 && c < 2); *o = eccn(D, e, t) + (c && !e ? 11 : 0); return OK; }
API nvmlDeviceGetDetailedEccErrors(void *h, u32 e, u32 c, ecc_t *o) { DEV(nvmlDeviceGetDetailedEccErrors, "ecc", h); NEED(o && e < 2 && c < 2); memset(o, 0, sizeof *o); o->dev = eccn(D, e, t) + (c && !e ? 11 : 0); return OK; }
API nvmlDeviceGetMemoryErrorCounter(void *h, u32 e, u32 c, u32 l, u64 *o) { DEV(nvmlDeviceGetMemoryErrorCounter, "ecc", h); NEED(o && e < 2 && c < 2 && l < 8); *o = l == 2 ? eccn(D, e, t) + (c && !e ? 11 : 0) : 0; return OK; }
API nvmlDeviceGetRetiredPages(void *h, u32 k, u32 *n, u64 *a) { DEV(nvmlDeviceGetRetiredPages, "ecc", h); (void)k; (void)a; NEED(n); *n = 0; return OK; }
API nvmlDeviceGetRetiredPages_v2(void *h, u32 k, u32 *n, u64 *a, u64 *ts) { DEV(nvmlDeviceGetRetiredPages_v2, "ecc", h); (void)k; (void)a; (void)ts; NEED(n); *n = 0; return OK; }
API nvmlDeviceGetRetiredPagesPendingStatus(void *h, u32 *o) { DEV(nvmlDeviceGetRetiredPagesPendingStatus, "ecc", h); NEED(o); *o = 0; return OK; }
API nvmlDeviceGetRemappedRows(void *h, u32 *a, u32 *b, u32 *c, u32 *d) { DEV(nvmlDeviceGetRemappedRows, "ecc", h); NEED(a && b && c && d); *a = gu(D, F_REMAPC, t); *b = gu(D, F_REMAPU, t); *c = gu(D, F_REMAPP, t); *d = 0; return OK; }
API nvmlDeviceGetRowRemapperHistogram(void *h, rowhist_t *o) { DEV(nvmlDeviceGetRowRemapperHistogram, "ecc", h); NEED(o); memset(o, 0, sizeof *o); o->max = 3072; return OK; }

/* ---------------------------------------------------------------------- mig */
API nvmlDeviceGetMigMode(void *h, u32 *a, u32 *b) { DEV(nvmlDeviceGetMigMode, "mig", h); NEED(a && b); *a = *b = divided(D); return OK; }
API nvmlDeviceGetMaxMigDeviceCount(void *h, u32 *o) { DEV(nvmlDeviceGetMaxMigDeviceCount, "mig", h); NEED(o); *o = MAXMIG; return OK; }
API nvmlDeviceGetMigDeviceHandleByIndex(void *h, u32 i, void **o) { DEV(nvmlDeviceGetMigDeviceHandleByIndex, "mig", h); NEED(o); if (i >= nmig[D->i]) return E_NOTFOUND; *o = &migs[D->i][i]; return OK; }
API nvmlDeviceIsMigDeviceHandle(void *h, u32 *o) { ANY(nvmlDeviceIsMigDeviceHandle, "mig", h); NEED(o); *o = instance(D); return OK; }
API nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *h, void **o) { ANY(nvmlDeviceGetDeviceHandleFromMigDeviceHandle, "mig", h); NEED(o); if (!instance(D)) return E_ARG; *o = &devs[D->i]; return OK; }
API nvmlDeviceGetGpuInstanceId(void *h, u32 *o) { ANY(nvmlDeviceGetGpuInstanceId, "mig", h); NEED(o); if (!instance(D)) return E_NOSUP; *o = D->busno; return OK; }
API nvmlDeviceGetComputeInstanceId(void *h, u32 *o) { ANY(nvmlDeviceGetComputeInstanceId, "mig", h); NEED(o); if (!instance(D)) return E_NOSUP; *o = 0; return OK; }

/* ---------------------------------------------------------------- processes */
static __thread u32 gis[256]; /* the instance of each process of the last list */
static int plist(dev_t_ *D, double t, char type, pspec_t *o, int max) {
  u32 on_card = 0; if (divided(D) && !instance(D) && !mig_rights) return 0;
  int n = 0; u64 used = mem_used(D, t) / MIB; const char *s = NULL;
  scripted(D, F_PROCS, t, &s);
  pspec_t tmp[64]; const pspec_t *src = procs; int ns = nprocs;
  if (s) { ns = parse_procs(s, tmp, 64, (int)D->i); src = tmp; }
  else if (procs_default) { pspec_t p = { (int)D->i, npid ? pidlist[D->i < (u32)npid ? D->i : (u32)npid - 1] : -1, -1, 'C' }; tmp[0] = p; src = tmp; ns = 1; }
  for (int i = 0; i < ns && n < max; i++) { if ((src[i].gpu >= 0 && src[i].gpu != (int)D->i) || src[i].type != type) continue;
    o[n] = src[i]; if (o[n].pid == -1) o[n].pid = getpid(); else if (o[n].pid == -2) o[n].pid = getppid();
    if (o[n].mib == -1) o[n].mib = used > 610 ? (double)(used - 610) : 10;
    if (divided(D)) { u32 gi = 1 + on_card++ % nmig[D->i]; if (instance(D) && gi != D->busno) continue; gis[n] = gi; } else gis[n] = 0xffffffff;
    n++; }
  return n;
}
static u64 pmem(const pspec_t *p) { return p->mib < 0 ? NOT_AVAILABLE : (u64)(p->mib * MIB); }
static int procs_v1(dev_t_ *D, double t, char ty, u32 *n, proc1_t *o) { NEED(n); pspec_t p[256]; u32 k = plist(D, t, ty, p, 256); if (*n < k || (k && !o)) { *n = k; return k ? E_SIZE : OK; }
  for (u32 i = 0; i < k; i++) { o[i].pid = p[i].pid; o[i].used = pmem(&p[i]); } *n = k; return OK; }
static int procs_v2(dev_t_ *D, double t, char ty, u32 *n, proc2_t *o) { NEED(n); pspec_t p[256]; u32 k = plist(D, t, ty, p, 256); if (*n < k || (k && !o)) { *n = k; return k ? E_SIZE : OK; }
  for (u32 i = 0; i < k; i++) { o[i].pid = p[i].pid; o[i].used = pmem(&p[i]); o[i].gi = gis[i]; o[i].ci = gis[i] == 0xffffffff ? gis[i] : 0; } *n = k; return OK; }
#define PROCS(kind, ty) \
API nvmlDeviceGet##kind##RunningProcesses(void *h, u32 *n, proc1_t *o) { ANY(nvmlDeviceGet##kind##RunningProcesses, "procs", h); return procs_v1(D, t, ty, n, o); } \
API nvmlDeviceGet##kind##RunningProcesses_v2(void *h, u32 *n, proc2_t *o) { ANY(nvmlDeviceGet##kind##RunningProcesses_v2, "procs", h); return procs_v2(D, t, ty, n, o); } \
API nvmlDeviceGet##kind##RunningProcesses_v3(void *h, u32 *n, proc2_t *o) { ANY(nvmlDeviceGet##kind##RunningProcesses_v3, "procs", h); return procs_v2(D, t, ty, n, o); }
PROCS(Compute, 'C')
PROCS(Graphics, 'G')
PROCS(MPSCompute, 'M')
API nvmlDeviceGetRunningProcessDetailList(void *h, proclist_t *l) { DEV(nvmlDeviceGetRunningProcessDetailList, "procs", h); NEED(l); if (l->version != VER(proclist_t, 1)) return E_VERSION;
  if (l->mode > 2) return E_ARG; pspec_t p[256]; u32 k = plist(D, t, "CGM"[l->mode], p, 256); if (l->n < k || (k && !l->arr)) { l->n = k; return k ? E_SIZE : OK; }
  for (u32 i = 0; i < k; i++) { l->arr[i].pid = p[i].pid; l->arr[i].used = pmem(&p[i]); l->arr[i].gi = l->arr[i].ci = 0xffffffff; l->arr[i].cc = 0; } l->n = k; return OK; }
static u32 allprocs(dev_t_ *D, double t, pspec_t *p) { u32 k = plist(D, t, 'C', p, 80); k += plist(D, t, 'G', p + k, 80); k += plist(D, t, 'M', p + k, 80); return k; }
API nvmlDeviceGetProcessUtilization(void *h, procutil_t *o, u32 *n, u64 last) { DEV(nvmlDeviceGetProcessUtilization, "procutil", h); NEED(n); pspec_t p[256]; u32 k = allprocs(D, t, p);
  u64 ts = now_us(); if (ts <= last) return E_NOTFOUND; if (!k) { *n = 0; return E_NOTFOUND; } if (!o || *n < k) { *n = k; return E_SIZE; }
  for (u32 i = 0; i < k; i++) { memset(&o[i], 0, sizeof o[i]); o[i].pid = p[i].pid; o[i].ts = ts; o[i].sm = gu(D, F_UTIL, t) / k; o[i].mem = gu(D, F_MEMUTIL, t) / k; o[i].enc = gu(D, F_ENC, t); o[i].dec = gu(D, F_DEC, t); } *n = k; return OK; }
API nvmlDeviceGetProcessesUtilizationInfo(void *h, procutillist_t *l) { DEV(nvmlDeviceGetProcessesUtilizationInfo, "procutil", h); NEED(l); if (l->version != VER(procutillist_t, 1)) return E_VERSION;
  pspec_t p[256]; u32 k = allprocs(D, t, p); u64 ts = now_us(); if (!k || ts <= l->last) { l->n = 0; return E_NOTFOUND; } if (!l->arr || l->n < k) { l->n = k; return E_SIZE; }
  for (u32 i = 0; i < k; i++) { memset(&l->arr[i], 0, sizeof l->arr[i]); l->arr[i].pid = p[i].pid; l->arr[i].ts = ts; l->arr[i].sm = gu(D, F_UTIL, t) / k; l->arr[i].mem = gu(D, F_MEMUTIL, t) / k; } l->n = k; return OK; }

/* ------------------------------------------------------- samples and fields */
API nvmlDeviceGetSamples(void *h, u32 k, u64 last, int *vt, u32 *n, sample_t *o) {
  DEV(nvmlDeviceGetSamples, "samples", h); NEED(vt && n); static const int f[10] = { F_POWER, F_UTIL, F_MEMUTIL, F_ENC, F_DEC, F_CSM, F_CMEM, F_POWER, F_JPG, F_OFA };
  if (k >= 10) return E_ARG; *vt = VT_UINT; if (!o) { *n = 120; return OK; }
  u64 ts = now_us(), step = 167000, a = ts - 119 * step; if (last >= ts) return E_NOTFOUND; if (last > a) a = last + step; u32 c = 0;
  for (u64 x = a; x <= ts && c < *n; x += step, c++) { double v = g(D, f[k], t - (double)(ts - x) / 1e6 * timescale); o[c].ts = x; o[c].v.ull = 0; o[c].v.u = f[k] == F_POWER ? mw(v) : (u32)v; }
  *n = c; return c ? OK : E_NOTFOUND; }
static int one_field(dev_t_ *D, field_t *f, double t) {
  f->type = VT_ULL; f->v.ull = 0; u32 id = f->id, all = f->scope == 0xffffffffu, L = nlink ? nlink : 1;
#define U(x) do { f->type = VT_UINT; f->v.u = (u32)(x); return OK; } while (0)
#define UL(x) do { f->type = VT_ULL; f->v.ull = (u64)(x); return OK; } while (0)
  if (id >= 3 && id <= 28) { int vol = id < 5 || (id >= 7 && id <= 17); int dbe = id == 4 || id == 6 || (id >= 7 && id <= 16 && id % 2 == 0) || id == 17 || (id >= 18 && id <= 27 && id % 2) || id == 28;
    int devloc = (id >= 3 && id <= 6) || id == 11 || id == 12 || id == 22 || id == 23; UL(devloc ? eccn(D, dbe, t) + (!vol && !dbe ? 11 : 0) : 0); }
  if ((id >= 32 && id <= 59) || (id >= 96 && id <= 119) || (id >= 148 && id <= 163)) { if (!nlink) return E_NOSUP; UL(g(D, F_LERR, t)); }
  if ((id >= 84 && id <= 90) || (id >= 132 && id <= 137) || id == 164) { if (!nlink) return E_NOSUP; U(26562); }
  if (id >= 173 && id <= 183) U(0);
  switch (id) {
  case 1: case 2: U(1); case 29: case 30: case 31: case 92: case 93: U(0);
  case 74: UL(t * 2.1e7); case 75: case 76: case 77: case 78: case 79: case 80: case 81: case 251: case 252: case 253: UL(0);
  case 82: U(gu(D, F_MEMTEMP, t)); case 83: case 191: UL(grow(D, -1, t));
  case 91: U(nlink); case 94: U(gu(D, F_REPLAY, t)); case 95: U(0);
  case 138: case 140: if (!nlink) return E_NOSUP; UL(grow(D, 2, t) / (all ? 1 : L)); case 139: case 141: if (!nlink) return E_NOSUP; UL(grow(D, 3, t) / (all ? 1 : L));
  case 202: UL(grow(D, 2, t) * 1024 / (all ? 1 : L)); case 204: UL(grow(D, 3, t) * 1024 / (all ? 1 : L)); case 201: UL(grow(D, 2, t) / L); case 203: UL(grow(D, 3, t) / L);
  case 142: U(gu(D, F_REMAPC, t)); case 143: U(gu(D, F_REMAPU, t)); case 144: U(gu(D, F_REMAPP, t)); case 145: U(0);
  case 147: U(nlink); case 165: if (f->scope >= nlink) return E_ARG; U((((u64)g(D, F_LINKS, t)) >> f->scope) & 1); case 166: U(6); case 167: U(0); case 170: U(0);
  case 185: case 186: U(mw(g(D, F_POWER, t))); case 187: U(mw(power_limit * 2 / 7)); case 188: case 189: U(mw(power_limit)); case 190: case 192: U(mw(g(D, F_PLIMIT, t)));
  case 193: f->type = VT_INT; f->v.i = -5; return OK; case 194: f->type = VT_INT; f->v.i = -2; return OK; case 195: case 196: f->type = VT_INT; f->v.i = 0; return OK;
  case 197: UL(grow(D, 0, t)); case 198: UL(grow(D, 1, t)); case 206: case 207: case 208: case 209: case 210: case 211: case 212: case 215: case 219: case 221: UL(g(D, F_LERR, t));
  case 226: case 227: case 230: U(0);
  } return E_NOSUP;
}
static const char *field_group(u32 id) { return id <= 31 || (id >= 142 && id <= 145) ? "ecc" : id == 82 || (id >= 193 && id <= 196) ? "temp" : id == 83 || id == 191 ? "energy" : id == 185 || id == 186 ? "power" : (id >= 187 && id <= 192) ? "power_limit" : id == 94 || id == 95 || (id >= 173 && id <= 183) || id == 197 || id == 198 ? "pcie" : id >= 74 && id <= 81 ? "throttle" : "nvlink"; }
API nvmlDeviceGetFieldValues(void *h, int n, field_t *f) { DEV(nvmlDeviceGetFieldValues, "fields", h); NEED(f && n > 0);
  for (int i = 0; i < n; i++) { f[i].ts = (long long)now_us(); f[i].lat = 20; int rc = nfault ? fault("", field_group(f[i].id), D, K_DEV) : OK; f[i].ret = rc ? rc : one_field(D, &f[i], t); } return OK; }
API nvmlDeviceClearFieldValues(void *h, int n, field_t *f) { DEV(nvmlDeviceClearFieldValues, "fields", h); (void)n; (void)f; return E_PERM; }

/* ------------------------------------------------------------------- nvlink */
#define LINK(fn, l) DEV(fn, "nvlink", h); if (!nlink) return E_NOSUP; if ((l) >= nlink) return E_ARG
API nvmlDeviceGetNvLinkState(void *h, u32 l, u32 *o) { LINK(nvmlDeviceGetNvLinkState, l); NEED(o); *o = (((u64)g(D, F_LINKS, t)) >> l) & 1; return OK; }
API nvmlDeviceGetNvLinkVersion(void *h, u32 l, u32 *o) { LINK(nvmlDeviceGetNvLinkVersion, l); NEED(o); *o = 6; return OK; }
API nvmlDeviceGetNvLinkCapability(void *h, u32 l, u32 c, u32 *o) { LINK(nvmlDeviceGetNvLinkCapability, l); NEED(o && c < 6); *o = c != 4; return OK; }
API nvmlDeviceGetNvLinkErrorCounter(void *h, u32 l, u32 c, u64 *o) { LINK(nvmlDeviceGetNvLinkErrorCounter, l); NEED(o && c < 5); *o = (u64)g(D, F_LERR, t); return OK; }
API nvmlDeviceGetNvLinkRemoteDeviceType(void *h, u32 l, u32 *o) { LINK(nvmlDeviceGetNvLinkRemoteDeviceType, l); NEED(o); *o = 2; return OK; }
static void swpci(u32 l, pci3_t *o) { memset(o, 0, sizeof *o); o->bus = 5 + l % 4; o->devid = 0x22a310de; snprintf(o->legacy, 16, "0000:%02X:00.0", o->bus & 0xff); snprintf(o->id, 32, "00000000:%02X:00.0", o->bus); }
API nvmlDeviceGetNvLinkRemotePciInfo_v2(void *h, u32 l, pci3_t *o) { LINK(nvmlDeviceGetNvLinkRemotePciInfo_v2, l); NEED(o); swpci(l, o); return OK; }
API nvmlDeviceGetNvLinkUtilizationCounter(void *h, u32 l, u32 c, u64 *r, u64 *x) { LINK(nvmlDeviceGetNvLinkUtilizationCounter, l); (void)c; (void)r; (void)x; return E_NOSUP; }

/* ------------------------------------------------------------------- events */
typedef struct { u64 mask[MAXGPU]; double seen[MAXGPU]; } evset_t;
API nvmlDeviceGetSupportedEventTypes(void *h, u64 *o) { DEV(nvmlDeviceGetSupportedEventTypes, "events", h); NEED(o); *o = 0x1 | 0x2 | 0x8 | 0x10; return OK; }
API nvmlEventSetCreate(void **o) { SYS(nvmlEventSetCreate); NEED(o); evset_t *e = calloc(1, sizeof *e); for (int i = 0; i < MAXGPU; i++) e->seen[i] = now(); *o = e; return OK; }
API nvmlEventSetFree(void *s) { SYS(nvmlEventSetFree); free(s); return OK; }
API nvmlDeviceRegisterEvents(void *h, u64 m, void *s) { DEV(nvmlDeviceRegisterEvents, "events", h); NEED(s); ((evset_t *)s)->mask[D->i] |= m; return OK; }
static int evwait(evset_t *s, event_t *o, u32 ms) {
  NEED(s && o); double end = mono() + ms / 1000.0; memset(o, 0, sizeof *o);
  for (;;) { double t = now(), best = 1e300; int bg = -1; double bv = 0;
    if (script_path) { pthread_mutex_lock(&mu); script_check();
      for (u32 i = 0; i < ngpu; i++) if (s->mask[i] & 8) for (int k = 0; k < curve[F_XID][i].n; k++) { pt_t *p = &curve[F_XID][i].p[k]; if (p->t > s->seen[i] && p->t <= t && p->t < best && p->v > 0) { best = p->t; bg = i; bv = p->v; } }
      pthread_mutex_unlock(&mu); }
    if (bg >= 0) { s->seen[bg] = best; o->device = &devs[bg]; o->type = 8; o->data = (u64)bv; o->gi = o->ci = 0xffffffff; return OK; }
    double left = end - mono(); if (left <= 0) return E_TIMEOUT; nap(left < .05 ? left : .05); } }
API nvmlEventSetWait_v2(void *s, event_t *o, u32 ms) { SYS(nvmlEventSetWait_v2); return evwait(s, o, ms); }
API nvmlEventSetWait(void *s, event_t *o, u32 ms) { SYS(nvmlEventSetWait); return evwait(s, o, ms); }

/* ---------------------------------------------------------------------- gpm */
typedef struct { dev_t_ *d; double t; } gpms_t;
API nvmlGpmQueryDeviceSupport(void *h, gpmsup_t *o) { DEV(nvmlGpmQueryDeviceSupport, "gpm", h); NEED(o); o->supported = 1; return OK; }
API nvmlGpmQueryIfStreamingEnabled(void *h, u32 *o) { DEV(nvmlGpmQueryIfStreamingEnabled, "gpm", h); NEED(o); *o = 0; return OK; }
API nvmlGpmSampleAlloc(void **o) { SYS(nvmlGpmSampleAlloc); NEED(o); *o = calloc(1, sizeof(gpms_t)); return OK; }
API nvmlGpmSampleFree(void *s) { SYS(nvmlGpmSampleFree); free(s); return OK; }
API nvmlGpmSampleGet(void *h, void *s) { DEV(nvmlGpmSampleGet, "gpm", h); NEED(s); ((gpms_t *)s)->d = D; ((gpms_t *)s)->t = t; return OK; }
API nvmlGpmMetricsGet(gpmget_t *q) { SYS(nvmlGpmMetricsGet); NEED(q && q->s1 && q->s2); gpms_t *a = q->s1, *b = q->s2; if (!valid(a->d) || a->d != b->d || b->t <= a->t) return E_ARG;
  double m = (a->t + b->t) / 2, u = g(a->d, F_UTIL, m);
  for (u32 i = 0; i < q->n && i < 210; i++) { gpmmetric_t *x = &q->m[i]; x->ret = OK; x->info.s = "fake"; x->info.l = "fake metric"; x->info.u = "%";
    switch (x->id) { case 1: x->value = u; break; case 2: x->value = u * .93; break; case 3: x->value = u * .42; break; case 4: x->value = u * .11; break; case 5: x->value = u * .55; break; case 7: x->value = u * .54; break;
      case 10: x->value = g(a->d, F_MEMUTIL, m); break; case 11: x->value = 0; break; case 12: x->value = u * .08; break; case 13: x->value = u * .03; break;
      case 20: x->value = g(a->d, F_TX, m) / 1024; x->info.u = "MiB/s"; break; case 21: x->value = g(a->d, F_RX, m) / 1024; x->info.u = "MiB/s"; break;
      case 60: x->value = g(a->d, F_LRX, m) / 1024; x->info.u = "MiB/s"; break; case 61: x->value = g(a->d, F_LTX, m) / 1024; x->info.u = "MiB/s"; break;
      default: x->ret = E_NOSUP; } }
  return OK; }

/* every other known name exists too, is counted, and says "not supported".
 * (Arguments are left alone, which the C calling conventions in use allow.) */
#define STUB(fn) API fn(void) { CTR(fn); int rc_ = enter(&ctr_, "stub", NULL, K_SYS); return rc_ ? rc_ : E_NOSUP; }
#include "stubs.inc"
