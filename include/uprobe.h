/*
 * uprobe.h - probes for a program that probes itself (libuprobe)
 *
 * In the spirit of the kernel's kprobes: the caller owns the structs and must not change
 * them while they are registered. Calls return 0 or a negative errno, never abort, never
 * print. Handlers run in the probed thread under the rules of a signal handler, and return: they
 * don't leave by longjmp.
 *
 * Every function is weak: a program built against this header also runs without the
 * library. UPROBE_AVAILABLE() tells whether it is there.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#ifndef UPROBE_H
#define UPROBE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The registers at a probe. A pre_handler may change each of them; rip is the address of
 * the probed instruction, and a handler that changes it returns 1. */
struct uprobe_regs {
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp;
	uint64_t rip, rflags;
};

struct uprobe;

/* 0: go on. 1: regs->rip was changed, don't run the probed instruction. */
typedef int (*uprobe_pre_handler_t)(struct uprobe *, struct uprobe_regs *);
/* After the probed instruction; flags is 0. */
typedef void (*uprobe_post_handler_t)(struct uprobe *, struct uprobe_regs *, unsigned long flags);
/* The probed instruction, or a handler of this probe, raised signal `signo`.
 * 1: dealt with, go on at regs->rip. 0: not mine. */
typedef int (*uprobe_fault_handler_t)(struct uprobe *, struct uprobe_regs *, int signo);

/* enum of struct uprobe's flags */
#define UPROBE_FLAG_DISABLED 0x1u  /* in: register it disabled; out: it is disabled */
#define UPROBE_FLAG_PENDING  0x2u  /* out: its object is not loaded */
#define UPROBE_FLAG_GONE     0x4u  /* out: its object was unloaded, or a handler crashed */
#define UPROBE_FLAG_OPTIMIZED 0x8u /* out: a jump instead of int3 */
#define UPROBE_FLAG_INT3     0x10u /* in: always int3, never a jump */
#define UPROBE_FLAG_NOVEC    0x20u /* in: pre_handler and what it calls touch no vector register (compiled
                                      with -mgeneral-regs-only): they need not be saved at a jump. If it
                                      crashes, what it has written to regs until then stays there */
#define UPROBE_FLAG_PERTHREAD 0x40u /* in: each thread counts its hits for itself, so that threads that run the
                                      same probe don't wait for each other's processors: nhit is written by
                                      uprobe_sync(), when it is disabled, and when it is unregistered */

/* A probe. Zero it, set the first fields, register it. */
struct uprobe {
	const char *pathname;           /* the object; NULL: the program */
	const char *symbol_name;        /* the function; NULL: offset is a file offset */
	uint64_t offset;                /* from symbol_name, or in the file */
	void *addr;                     /* instead of the three above: an address. Out: where it is */
	uprobe_pre_handler_t pre_handler;
	uprobe_post_handler_t post_handler;
	uprobe_fault_handler_t fault_handler;
	void *data;                     /* the caller's */
	uint64_t nhit;                  /* out: handlers ran (see UPROBE_FLAG_PERTHREAD) */
	uint64_t nmissed;               /* out: they did not: a hit inside a handler */
	uint32_t flags;                 /* UPROBE_FLAG_* */
	uint32_t reserved0;             /* 0 */
	void *opaque[4];                /* the library's; zero before registering */
};

/*
 * Return probes: a function's return, and its entry with it, for each call on its own.
 *
 * A call is followed from its entry to its return by an instance, which has room for what the two
 * handlers have to tell each other: data_size bytes, zeroed for each call.
 */
struct uretprobe;

#if defined(__clang__) && defined(__cplusplus)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wc99-extensions"
#endif
struct uretprobe_instance {
	struct uretprobe *rp;           /* the probe it belongs to */
	uint64_t ret_addr;              /* the real return address; the stack has another one meanwhile */
	uint64_t slot;                  /* where on the stack it is: rsp at the entry */
	uint64_t reserved;
#ifdef __GNUC__
	__extension__ unsigned char data[] __attribute__((aligned(16))); /* the user's */
#endif
};
#if defined(__clang__) && defined(__cplusplus)
#pragma clang diagnostic pop
#endif

/* The user's data_size bytes, for compilers and languages without flexible arrays: ri->data. */
static inline void *uprobe_instance_data(struct uretprobe_instance *ri)
{
	return ri + 1;
}

/*
 * entry_handler, at the first instruction: non-zero: this call isn't followed, and not counted in
 * nhit. It may change registers, arguments first of all, but not rip and rsp: those stay as they were.
 * handler, at the return: registers are the caller's after the call: rax the result, rip the real
 * return address, rsp above it. It may change them; the function returns to where rip then is. Its result
 * means nothing (return 0).
 */
typedef int (*uretprobe_handler_t)(struct uretprobe_instance *, struct uprobe_regs *);

/* A return probe. Zero it, set the place in `up` and the fields here down to data_size, register it. */
struct uretprobe {
	struct uprobe up;               /* the place: a function's first instruction; pre_handler and
	                                   post_handler NULL, fault_handler as ever.
	                                   Out: nhit, the calls followed; nmissed as below; flags */
	uretprobe_handler_t handler;
	uretprobe_handler_t entry_handler; /* or NULL */
	int maxactive;                  /* most calls followed at once; 0: no limit of its own */
	uint32_t reserved0;             /* 0 */
	size_t data_size;               /* of an instance, at most UPROBE_MAX_DATA_SIZE */
	uint64_t nmissed;               /* out: calls not followed: no instance was left, or it was a call
	                                   from inside a handler; the same as up.nmissed */
	void *opaque[2];                /* the library's; zero before registering */
};

#define UPROBE_MAX_DATA_SIZE 4096

/*
 * jprobes: a function's arguments as C has them. `entry` has the probed function's own signature and is
 * called with its arguments before it runs, under the rules of a handler. What it does to them
 * the function does not see: it runs with its own, but memory behind pointers is the same memory. It
 * returns like any function (the value means nothing) or by ujprobe_return(), at any depth.
 *
 * Passed are integer registers, the 128-bit halves of vector registers (so not __m256 arguments), and the
 * first UPROBE_JPROBE_STACK bytes of arguments on the stack; x87 arguments are on the stack, and so
 * are structs by value.
 */
struct ujprobe {
	struct uprobe up;               /* as for a return probe; nhit: entry was called */
	void *entry;                    /* the function, cast to void * */
	void *opaque[2];                /* the library's; zero before registering */
};

#define UPROBE_JPROBE_STACK 256

/* Weak, and found at run time also by a program that is not position independent (with gcc; clang
 * needs -fPIE or -fno-plt for that: it takes the address of a weak function for a constant). */
#if defined(__GNUC__) && !defined(__clang__)
#define UPROBE_WEAK __attribute__((weak, noplt))
#elif defined(__GNUC__)
#define UPROBE_WEAK __attribute__((weak))
#else
#define UPROBE_WEAK
#endif

/* -ENOENT no such object or symbol, -EINVAL not a place for a probe, -EILSEQ not an
 * instruction boundary, -EBUSY somebody else's int3, -ENOMEM; -EINVAL too where it is registered already;
 * -EAGAIN where it is the first call and another thread keeps SIGTRAP blocked for good; -ENOSYS in a child that was
 * forked while another thread was making the first call. */
UPROBE_WEAK int register_uprobe(struct uprobe *);
UPROBE_WEAK int unregister_uprobe(struct uprobe *);
/* All or nothing. */
UPROBE_WEAK int register_uprobes(struct uprobe **, int);
UPROBE_WEAK int unregister_uprobes(struct uprobe **, int);
/* The probe stays registered. */
UPROBE_WEAK int enable_uprobe(struct uprobe *);
UPROBE_WEAK int disable_uprobe(struct uprobe *);
/* Writes nhit of a registered probe with UPROBE_FLAG_PERTHREAD: all hits that are over, and of those under way it may
 * have some; without the flag it is always up to date, and this does nothing. -EINVAL where it is not registered. For
 * structs of any kind: uprobe_sync(&rp->up). */
UPROBE_WEAK int uprobe_sync(struct uprobe *);

/*
 * As register_uprobe and unregister_uprobe; -EINVAL too without a handler, with a pre_handler or
 * post_handler in `up`, with a negative maxactive, at a place that is not a function's first
 * instruction, and for the few functions whose return can't be followed (those that look at their own
 * return address, like dlopen; an entry probe works there). -E2BIG data_size.
 * After unregister no handler runs: calls that are under way return unseen.
 * enable_uprobe(&rp->up) and disable_uprobe(&rp->up) work; a call whose entry was seen before
 * disable_uprobe returns unseen.
 */
UPROBE_WEAK int register_uretprobe(struct uretprobe *);
UPROBE_WEAK int unregister_uretprobe(struct uretprobe *);
UPROBE_WEAK int register_uretprobes(struct uretprobe **, int);
UPROBE_WEAK int unregister_uretprobes(struct uretprobe **, int);

/* As register_uprobe and unregister_uprobe; -EINVAL too without entry, with a pre_handler or
 * post_handler in `up`, and at a place that is not a function's first instruction.
 * enable_uprobe(&jp->up) and disable_uprobe(&jp->up) work. */
UPROBE_WEAK int register_ujprobe(struct ujprobe *);
UPROBE_WEAK int unregister_ujprobe(struct ujprobe *);
UPROBE_WEAK int register_ujprobes(struct ujprobe **, int);
UPROBE_WEAK int unregister_ujprobes(struct ujprobe **, int);
/* Ends a jprobe's entry from any depth of calls. Only there: called anywhere else it does nothing and
 * returns, which is why it isn't declared noreturn. */
UPROBE_WEAK void ujprobe_return(void);

/*
 * Calls of a function go to `replacement`, which has the same signature, in every thread and from
 * everywhere, handlers included; *original (original may be NULL) calls the real one, and stays callable
 * for ever. It is set before the first call is redirected. Handlers at the place still run, each call once;
 * one that skips the function skips the replacement. A return probe sees the replacement's return.
 * replacement NULL ends it: later calls are the function's own; who is inside the replacement stays there.
 *
 * pathname and symbol as in struct uprobe. Errors as register_uprobe's; and -ENOENT too where the object
 * is not loaded (a replacement doesn't wait); -EBUSY where the function is replaced already, or the library itself
 * relies on it; -EINVAL to end what isn't replaced; -EOPNOTSUPP where the function begins with an instruction
 * that can't be run from elsewhere. When the object is unloaded the replacement is over.
 * A function that jumps back to its own first instruction calls the replacement there too.
 */
UPROBE_WEAK int uprobe_replace(const char *pathname, const char *symbol, void *replacement, void **original);

/* Reads that can't fault: bytes read, which are fewer than n where the memory ends.
 * uprobe_read_string stops after the NUL and always writes one (n > 0); it returns the
 * length without it, or -EFAULT where not even the first byte can be read. */
UPROBE_WEAK long uprobe_read(void *dst, const void *src, size_t n);
UPROBE_WEAK long uprobe_read_string(char *dst, const void *src, size_t n);

/* The stack of the code at `regs`: the address it returns to, then the one its caller returns to, and so on, at
 * most n; how many. They are the real ones where a return probe has replaced them. A signal handler returns
 * to the restorer; the next address then is that of the interrupted instruction. In a return handler regs->rip
 * is where the function has returned to: the caller, whose own return address comes first. Ends early where neither
 * unwind tables (.eh_frame) nor frame pointers lead on. Safe in handlers; needs some 7 KiB of stack. */
UPROBE_WEAK long uprobe_stack(const struct uprobe_regs *regs, void **buf, size_t n);

#define UPROBE_AVAILABLE() (register_uprobe != 0)

/* Integer or pointer argument n (from 1) at a function's entry: registers, then stack. */
static inline uint64_t uprobe_arg(const struct uprobe_regs *regs, int n)
{
	switch (n) {
	case 1: return regs->rdi;
	case 2: return regs->rsi;
	case 3: return regs->rdx;
	case 4: return regs->rcx;
	case 5: return regs->r8;
	case 6: return regs->r9;
	default: break;
	}
	if (n < 1)
		return 0;
	return ((const uint64_t *)(uintptr_t)regs->rsp)[n - 6];
}

/* The integer or pointer result at a function's return. */
static inline uint64_t uprobe_retval(const struct uprobe_regs *regs)
{
	return regs->rax;
}

#ifdef __cplusplus
}
#endif

#endif /* UPROBE_H */
