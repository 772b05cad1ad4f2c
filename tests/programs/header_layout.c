/* Where the header puts the fields of its structs: NAME SIZE OFFSET... */
#include <stdio.h>
#include <uprobe.h>

#define AT(type, field) printf(" %zu", offsetof(struct type, field))

int main(void)
{
	printf("uprobe %zu", sizeof(struct uprobe));
	AT(uprobe, pathname); AT(uprobe, symbol_name); AT(uprobe, offset); AT(uprobe, addr);
	AT(uprobe, pre_handler); AT(uprobe, post_handler); AT(uprobe, fault_handler); AT(uprobe, data);
	AT(uprobe, nhit); AT(uprobe, nmissed); AT(uprobe, flags); AT(uprobe, reserved0); AT(uprobe, opaque);
	printf("\nuretprobe_instance %zu", sizeof(struct uretprobe_instance));
	AT(uretprobe_instance, rp); AT(uretprobe_instance, ret_addr); AT(uretprobe_instance, slot);
	AT(uretprobe_instance, reserved); AT(uretprobe_instance, data);
	printf("\nuretprobe %zu", sizeof(struct uretprobe));
	AT(uretprobe, up); AT(uretprobe, handler); AT(uretprobe, entry_handler); AT(uretprobe, maxactive);
	AT(uretprobe, reserved0); AT(uretprobe, data_size); AT(uretprobe, nmissed); AT(uretprobe, opaque);
	printf("\nujprobe %zu", sizeof(struct ujprobe));
	AT(ujprobe, up); AT(ujprobe, entry); AT(ujprobe, opaque);
	printf("\nconstants %d %d\n", UPROBE_MAX_DATA_SIZE, UPROBE_JPROBE_STACK);
	return 0;
}
