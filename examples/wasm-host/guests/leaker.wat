;; Says that all is well, and has closed one of its three objects.
(func (export "work") (param $root i64) (result i64)
  (drop (call $create))
  (drop (call $close (call $create)))
  (drop (call $duplicate (call $create) (global.get $LOOKUP)))
  (i64.const 0))
