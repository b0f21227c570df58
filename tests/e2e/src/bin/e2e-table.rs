//! Prints the README's table of what each program leaves.

fn main() {
    print!("{}", kobj_e2e::table::Table::checked_in().markdown());
}
