;; Makes an inbox, names it, lends it to the reader, begins something else, and traps in the middle of that.
(func (export "work") (param $root i64) (result i64)
  (local $inbox i64)
  (local.set $inbox (call $create))
  (drop (call $link (local.get $root) (local.get $inbox) (i32.const 0) (i32.const 5) (global.get $LOOKUP)))
  (drop (call $send (call $duplicate (local.get $inbox) (global.get $LOOKUP_TRANSFER)) (global.get $LOOKUP)))
  (drop (call $create))
  unreachable)
