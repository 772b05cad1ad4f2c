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
	uint64_t nhit;                  /* out: handlers ran */
	uint64_t nmissed;               /* out: they did not: a hit inside a handler */
	uint32_t flags;                 /* UPROBE_FLAG_* */
	uint32_t reserved0;             /* 0 */
	void *opaque[4];                /* the library's; zero before registering */
};

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
 * -EAGAIN where it is the first call and another thread keeps SIGTRAP blocked for good. */
UPROBE_WEAK int register_uprobe(struct uprobe *);
UPROBE_WEAK int unregister_uprobe(struct uprobe *);
/* All or nothing. */
UPROBE_WEAK int register_uprobes(struct uprobe **, int);
UPROBE_WEAK int unregister_uprobes(struct uprobe **, int);
/* The probe stays registered. */
UPROBE_WEAK int enable_uprobe(struct uprobe *);
UPROBE_WEAK int disable_uprobe(struct uprobe *);

/* Reads that can't fault: bytes read, which are fewer than n where the memory ends.
 * uprobe_read_string stops after the NUL and always writes one (n > 0); it returns the
 * length without it, or -EFAULT where not even the first byte can be read. */
UPROBE_WEAK long uprobe_read(void *dst, const void *src, size_t n);
UPROBE_WEAK long uprobe_read_string(char *dst, const void *src, size_t n);

/* The stack of the code at `regs`: the address it returns to, then the one its caller returns to, and so on, at
 * most n; how many. They are the real ones where a return probe has replaced them. A signal handler returns
 * to the restorer; the next address then is that of the interrupted instruction. Ends early where neither
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
