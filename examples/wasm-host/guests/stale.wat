;; Closes a handle, and then again and again.
(func (export "work") (param $root i64) (result i64)
  (local $handle i64)
  (local.set $handle (call $create))
  (loop $again
    (drop (call $close (local.get $handle)))
    (br $again))
  unreachable)
