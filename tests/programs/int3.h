/* Included before everything else where a program's probes are to be int3, never jumps: it asks for that in
 * each struct it registers. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <uprobe.h>

#undef UPROBE_AVAILABLE
#define UPROBE_AVAILABLE() (enable_uprobe != 0)

#define ALWAYS_INT3(kind, up) \
	static inline int register_##kind##_int3(struct kind *probe) \
	{ \
		if (probe) \
			up |= UPROBE_FLAG_INT3; \
		return register_##kind(probe); \
	} \
	static inline int register_##kind##s_int3(struct kind **probes, int n) \
	{ \
		for (int i = 0; probes && i < n; i++) { \
			struct kind *probe = probes[i]; \
			if (probe) \
				up |= UPROBE_FLAG_INT3; \
		} \
		return register_##kind##s(probes, n); \
	}
ALWAYS_INT3(uprobe, probe->flags)
ALWAYS_INT3(uretprobe, probe->up.flags)
ALWAYS_INT3(ujprobe, probe->up.flags)
#undef ALWAYS_INT3

#define register_uprobe register_uprobe_int3
#define register_uprobes register_uprobes_int3
#define register_uretprobe register_uretprobe_int3
#define register_uretprobes register_uretprobes_int3
#define register_ujprobe register_ujprobe_int3
#define register_ujprobes register_ujprobes_int3
