/* pre_handler before the instruction, post_handler after it, at an instruction that changes a
 * register, one that branches, a call and a return. */
#include "handlers.h"

extern long body(long a);
extern char at_add[], at_branch[], at_call[], at_ret[], after_add[], branched[], callee[], after_call[];
__asm__(".text\n .globl body, at_add, at_branch, at_call, at_ret, after_add, branched, callee, after_call\n"
	".type body, @function\n"
	"body: mov %rdi, %rax\n"
	"at_add: add $5, %rax\n"
	"after_add: test %rax, %rax\n"
	"at_branch: jnz branched\n ud2\n"
	"branched: nop\n"
	"at_call: call callee\n"
	"after_call: add $1, %rax\n"
	"at_ret: ret\n .size body, . - body\n"
	".type callee, @function\n callee: add $100, %rax\n ret\n .size callee, . - callee\n");

static uint64_t rax_before, rip_after, rax_after, rsp_before, rsp_after, top_after;
static int posts;

static int pre(struct uprobe *probe, struct uprobe_regs *regs)
{
	if (regs->rip != (uint64_t)(uintptr_t)probe->addr)
		printf("rip is not the place\n");
	rax_before = regs->rax;
	rsp_before = regs->rsp;
	return 0;
}
static void post(struct uprobe *probe, struct uprobe_regs *regs, unsigned long flags)
{
	(void)probe;
	posts++;
	rax_after = regs->rax;
	rip_after = regs->rip;
	rsp_after = regs->rsp;
	top_after = *(uint64_t *)(uintptr_t)regs->rsp;
	if (flags != 0)
		printf("flags is %lu\n", flags);
}

static void try(const char *what, char *place)
{
	struct uprobe probe = { .addr = place, .pre_handler = pre, .post_handler = post };
	REGISTER(&probe);
	posts = 0;
	long result = body(7);
	uint64_t hits = probe.nhit;
	UNREGISTER(&probe);
	printf("%s: result %ld, hits %llu, posts %d, rax %lld -> %lld, rsp %+lld, ", what, result,
	       (unsigned long long)hits, posts, (long long)rax_before, (long long)rax_after,
	       (long long)(rsp_after - rsp_before));
	printf("then at %s\n", rip_after == (uintptr_t)after_add ? "the next instruction"
		: rip_after == (uintptr_t)branched ? "the branch's target"
		: rip_after == (uintptr_t)callee ? (top_after == (uintptr_t)after_call ? "the callee" : "the callee, wrong return address")
		: "the caller");
}

int main(void)
{
	NEED_LIBRARY();
	try("add", at_add);
	try("jnz", at_branch);
	try("call", at_call);
	try("ret", at_ret);
	printf("unprobed: %ld\n", body(7));
	return 0;
}
