"""frida_host.py PID FUNCTION probe|enter|both: attaches, says "ready", and on a line of input what was counted.

probe is Interceptor's cheaper form for one instruction; enter and both are listeners on a function."""

import sys

import frida

SCRIPT = """
const count = Memory.alloc(8);
count.writeU64(0);
const cm = new CModule(`
#include <gum/guminterceptor.h>
extern volatile gint64 count;
void onEnter (GumInvocationContext * ic) { %s }
void onLeave (GumInvocationContext * ic) { count++; }
`, { count });
const main = Process.mainModule ?? Process.enumerateModules()[0];
const place = main.getExportByName('%s');
const what = '%s';
globalThis.keep = cm;
if (what === 'probe')
    Interceptor.attach(place, cm.onEnter);
else if (what === 'enter')
    Interceptor.attach(place, { onEnter: cm.onEnter });
else
    Interceptor.attach(place, { onEnter: cm.onEnter, onLeave: cm.onLeave });
Interceptor.flush();
rpc.exports = { count: () => count.readU64().toNumber() };
"""

pid, function, kind = int(sys.argv[1]), sys.argv[2], sys.argv[3]
session = frida.attach(pid)
script = session.create_script(SCRIPT % ("" if kind == "both" else "count++;", function, kind))
script.load()
print("ready", flush=True)
sys.stdin.readline()
exports = getattr(script, "exports_sync", None) or script.exports
print(exports.count(), flush=True)
