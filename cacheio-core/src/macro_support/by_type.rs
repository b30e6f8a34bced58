//! A value for each type, in a static of a function that is generic.

use std::any::TypeId;
use std::sync::OnceLock;

/// Holds a value for each of a few types. A look-up of the first type takes one comparison.
#[derive(Debug)]
pub(super) struct ByType<V>(OnceLock<Node<V>>);

#[derive(Debug)]
struct Node<V> {
    id: TypeId,
    value: V,
    next: Box<ByType<V>>,
}

impl<V> ByType<V> {
    pub(super) const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// Returns the value of a type, which the first call makes.
    #[inline]
    pub(super) fn get_or_insert(&self, id: TypeId, make: impl FnOnce() -> V) -> &V {
        let mut make = Some(make);
        let mut list = self;
        loop {
            let node = list.0.get_or_init(|| Node {
                id,
                // Only the last node of the list is made, so that this happens once.
                value: make
                    .take()
                    .map(|make| make())
                    .unwrap_or_else(|| unreachable!()),
                next: Box::new(ByType::new()),
            });
            if node.id == id {
                return &node.value;
            }
            list = &node.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_its_value() {
        let values = ByType::new();
        for _ in 0..2 {
            assert_eq!(*values.get_or_insert(TypeId::of::<u8>(), || 1), 1);
            assert_eq!(*values.get_or_insert(TypeId::of::<u16>(), || 2), 2);
            assert_eq!(*values.get_or_insert(TypeId::of::<u32>(), || 3), 3);
        }
        assert_eq!(*values.get_or_insert(TypeId::of::<u8>(), || 4), 1);
    }
}
