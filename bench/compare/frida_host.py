"""frida_host.py PID FUNCTION entry|both: attaches, says "ready", and on a line of input what was counted."""

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
const callbacks = { onEnter: cm.onEnter };
if (%s) callbacks.onLeave = cm.onLeave;
globalThis.keep = cm;
Interceptor.attach(place, callbacks);
Interceptor.flush();
rpc.exports = { count: () => count.readU64().toNumber() };
"""

pid, function, kind = int(sys.argv[1]), sys.argv[2], sys.argv[3]
session = frida.attach(pid)
both = kind == "both"
script = session.create_script(SCRIPT % ("" if both else "count++;", function, "true" if both else "false"))
script.load()
print("ready", flush=True)
sys.stdin.readline()
exports = getattr(script, "exports_sync", None) or script.exports
print(exports.count(), flush=True)
