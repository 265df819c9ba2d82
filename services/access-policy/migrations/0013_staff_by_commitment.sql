-- An agency may have several staff keys one after the other: their profiles open to one commitment.
CREATE INDEX staff_by_commitment ON staff (commitment);
