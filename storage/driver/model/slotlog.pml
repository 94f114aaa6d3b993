/*
 * slotlog.pml: the storage protocol of the slot log, to be checked exhaustively by spin. model_test.go
 * runs it; docs/design/004-exhaustive-model.md says what it leaves out and which function is which step.
 * Sections are those of the storage-protocol reference; a to f are the steps of its section 4.1.
 *
 * Replicas suspect, take over, lead, pause, crash and come back at any moment, without end. store is the
 * bucket and all that is under way to it. Bounds: REPLICAS processes at a time, SLOTS slots, TAKEOVERS
 * LEADER records, two lost create-only PUTs under way at a time. There is no bound on crashes, wrong
 * suspicions, retries, publications, GC rounds, or on how long anything takes.
 *
 * A record is a number that stands for the chain up to it: 5 bits for each record, the oldest first,
 * 3 for the writer (from 1) and 2 for what it is. So its `prev`, the hash of the header before it, is
 * the number without the last 5 bits; its slot is how long it is; its new_size is how many batches with
 * an entry are in it; its new_root is who wrote which of them. Equal numbers are equal bytes.
 */
#ifndef REPLICAS
#define REPLICAS 2
#endif
#ifndef SLOTS
#define SLOTS 5		/* at most 6: 30 bits */
#endif
#ifndef TAKEOVERS
#define TAKEOVERS 3	/* at most 7: 3 bits */
#endif
#ifndef SCRATCH
#define SCRATCH hidden	/* no part of a state; for pan -DBFS, which gives short traces: -DSCRATCH= */
#endif
#define NONE 255

/* What a record is. The low bit counts its entries: every batch has one. OTHER is a batch of other
 * bytes in the place of a BATCH, which only a mutant writes. */
#define LEADER   0
#define BATCH    1
#define RELEASED 2
#define OTHER    3

#define AFTER(h, w, kind) (((h) << 5) | ((w) << 2) | (kind))
#define PREV(h)      ((h) >> 5)
#define WRITER(h)    (((h) >> 2) & 7)
#define KIND(h)      ((h) & 3)
#define LEN(h)       ((h) == 0 -> 0 : ((h) < 32 -> 1 : ((h) < 1024 -> 2 : ((h) < 32768 -> 3 : ((h) < 1048576 -> 4 : ((h) < 33554432 -> 5 : 6))))))
#define SLOT(h)      (LEN(h) - 1)
#define UPTO(h, len) ((h) >> (5 * (LEN(h) - (len))))	/* the chain's first len records */
#define SIZE(h)      (((h)&1) + (((h)>>5)&1) + (((h)>>10)&1) + (((h)>>15)&1) + (((h)>>20)&1) + (((h)>>25)&1))

/* The bucket. */
int slot[SLOTS];	/* state/<name>/log/<n>; 0: absent */
byte floor;		/* state/<name>/floor: n. It grows with every write, so it stands for seq too */
byte checkpoint;	/* logs/<name>/checkpoint: its size + 1; 0: absent */

/* On the way to the bucket: create-only PUTs that nobody waits for any more, or whose answer will be lost.
 * Each may land at any time, again and again (hedged, repeated), or never. */
int late[2];

/* What happened, to judge by. */
int log;		/* the committed chain: the first record that was created in each slot */
int early[SLOTS];	/* by size: roots that were signed before anything was committed there */
byte witness;		/* the largest size that was signed, so that a witness may have it, + 1; 0: none */

/* What is checked, each with an assert, under the name that a violation shows. A mutant leaves out the
 * assert that only says it again, so that what the rule is for must fail. */
SCRATCH byte chainIsLinear = 1, oneRootPerSize = 1, ackedIsInChain = 1, checkpointGoesForward = 1;
SCRATCH byte invariantF = 1, leadersAreKept = 1, newerAreKept = 1, healthyStoreIsNotRefused = 1;
SCRATCH int r, q;	/* scratch, within one step */
SCRATCH byte i;

byte asked;		/* LEADER records asked for */
byte resting = (1 << REPLICAS) - 1;	/* set of standbys that do nothing */

/* r = which writer wrote which of the first size entries of the chain h. */
inline root(h, size, r) {
	i = 0; r = 0;
	do
	:: i < LEN(h) ->
		i++;
		r = ((UPTO(h, i) & 1) && SIZE(UPTO(h, i)) <= size -> (r << 5) | (UPTO(h, i) & 31) : r)
	:: else -> break
	od;
	i = 0
}

/* A create-only PUT of h is applied. Section 5: committed records form one hash chain, that is, the
 * first record in each slot follows the one before it; so one writer's records at most extend it. */
inline create(h) {
	d_step {
	slot[SLOT(h)] = h;
	if
	:: SLOT(h) >= LEN(log) ->
		chainIsLinear = (SLOT(h) == LEN(log) && PREV(h) == log);
		assert(chainIsLinear);
		log = h;
		root(h, SIZE(h), r);
		oneRootPerSize = (early[SIZE(h)] == 0 || early[SIZE(h)] == r);
		assert(oneRootPerSize);
		r = 0
	:: else
	fi;
	settle()
	}
}

#ifdef MUTANT_LEADERS_COLLECTED
#define KEPT(k) 0
#else
#define KEPT(k) (KIND(UPTO(log, (k) + 1)) == LEADER)
#endif
/* In flight to where a LEADER is: it can never land. */
#define VAIN(h) (h != 0 && SLOT(h) < LEN(log) && KEPT(SLOT(h)))

/* Forgets what cannot land and sorts the rest, so that what is alike looks alike. */
inline settle() {
	late[0] = (VAIN(late[0]) -> 0 : late[0]);
	late[1] = (VAIN(late[1]) -> 0 : late[1]);
	if
	:: late[0] < late[1] -> r = late[0]; late[0] = late[1]; late[1] = r; r = 0
	:: else
	fi
}

/* Section 3.4: sign h's size and root. Whoever may sign h may do so at once, and what is committed
 * stays committed, so that nothing is lost by trying it at the earliest moment only. */
inline sign(h) {
	d_step {
	root(h, SIZE(h), r);
	if
	:: SIZE(h) <= SIZE(log) -> root(log, SIZE(h), q)
	:: else ->
		q = (early[SIZE(h)] == 0 -> r : early[SIZE(h)]);
		early[SIZE(h)] = r
	fi;
	oneRootPerSize = (r == q);
	assert(oneRootPerSize);
	r = 0; q = 0;
	witness = (SIZE(h) + 1 > witness -> SIZE(h) + 1 : witness)
	}
}

/* Section 3.2: resolve the futures of h. The chain only grows, so what is in it stays. */
inline ack(h) {
	d_step { ackedIsInChain = (LEN(h) <= LEN(log) && UPTO(log, LEN(h)) == h); assert(ackedIsInChain) }
}

/* Sections 2 and 5: invariant F; LEADER records are never deleted; nor is any at or above the floor. */
inline check() {
#if !defined(MUTANT_FLOOR_AHEAD) && !defined(MUTANT_DELETE_FIRST)
	invariantF = (floor == 0 || (floor < LEN(log) && slot[floor] == UPTO(log, floor + 1) && SIZE(slot[floor]) < checkpoint));
	assert(invariantF);
#endif
	i = 0;
	do
	:: i < LEN(log) ->
#ifndef MUTANT_LEADERS_COLLECTED
		leadersAreKept = (slot[i] == UPTO(log, i + 1) || KIND(UPTO(log, i + 1)) != LEADER);
		assert(leadersAreKept);
#endif
#ifndef MUTANT_DELETE_FIRST
		newerAreKept = (slot[i] == UPTO(log, i + 1) || i < floor);
		assert(newerAreKept);
#endif
		i++
	:: else -> break
	od;
	i = 0
}

/* The PUT is under way, and its answer will not come. */
#define DELAY :: atomic { slot[SLOT(put)] == 0 && late[0] != put && late[1] != put -> \
		if \
		:: late[1] = put \
		:: late[0] != 0 && late[1] != 0 -> late[0] = put \
		fi; \
		d_step { settle() }; goto putting }

#ifndef COARSE
/* Back to standby, for whatever reason: crashed, deposed, overtaken, released. Nothing is kept. */
#define LEAVE d_step { resting = resting | (1 << _pid); w = 0; h = 0; put = 0; f = 0; n = 0; hi = 0; at = 0; odd = 0; verified = 0 }; goto standby
#define CRASH :: atomic { LEAVE }

/* Refuse to lead, alarm. The store is healthy, so this must not be reached. To see what else a mutant
 * breaks, it may refuse. */
#ifdef MAY_REFUSE
#define REFUSE skip
#else
#define REFUSE healthyStoreIsNotRefused = 0; assert(healthyStoreIsNotRefused)
#endif

/* Section 4.2 begins: slot k was missing or did not fit. n is s from here on. */
#ifdef MUTANT_NO_REFUSAL_RULE
#define ODD(k) REFUSE; LEAVE
#define ODD_TAIL(k) ODD(k)
#else
#define ODD(k) odd = k; n = LEN(h); hi = 0; at = 0; put = 0; f = 0; goto own
#define ODD_TAIL(k) odd = k; n = 0; f = 0; goto floors /* s is not known yet */
#endif

#define OVERTAKEN (n > 0 && floor >= n)		/* 2 */
#define COLLECTED (odd != NONE && floor > odd)	/* 3 */

/* The record of slot f does not follow the one before it. One of the two is a ghost, and if it is the
 * earlier, f may be where the floor is. */
#ifdef MUTANT_LATER_MISFIT
#define MISFIT f
#else
#define MISFIT (f - 1)
#endif

/* Step a, the search: slot k is missing, so it may end with n = k. */
#define MISSING(k) :: atomic { k < SLOTS && f <= k && k <= LEN(log) && slot[k] == 0 -> n = k }

#ifdef MUTANT_SAME_WRITER
#define OURS(x) (WRITER(x) == WRITER(put))
#else
#define OURS(x) (x == put)
#endif

/* Step c: our LEADER record is in a slot that had been collected. */
#ifdef MUTANT_NO_FLOOR_RECHECK
#define GHOST false
#else
#define GHOST (floor > SLOT(h))
#endif

/* 3.4 and 3.6: the bucket's checkpoint, or what a witness has, is larger than all that this leader knows
 * to be committed. */
#define ODDITIES :: atomic { (put == 0 || KIND(put) != LEADER) && (checkpoint > SIZE(h) + 1 || witness > SIZE(h) + 1) -> ODD(NONE) }

/* The record is committed: h is ours. */
#define COMMITTED h = put; put = 0; \
	if \
	:: KIND(h) == LEADER -> goto recheck \
	:: KIND(h) == RELEASED -> LEAVE \
	:: else -> ack(h); sign(h); goto lead \
	fi

active [REPLICAS] proctype replica() {
	byte w;		/* writer of this leadership attempt */
	int h;		/* state: the newest record this process has read, or committed */
	int put;	/* the record it is putting */
	byte f;		/* the floor it has read */
	byte n;		/* a: slot; d: checkpoint; section 4.2: s */
	byte hi;	/* d: end of the search */
	int at;		/* d: the record read last */
	byte odd;	/* section 4.2: the slot that was missing or did not fit */
	bit verified;	/* a2 was done, so d need not */

standby: /* Suspicion comes at any moment. Those at rest are all alike: the first of them goes. */
	atomic {
		asked < TAKEOVERS && !(resting & ((1 << _pid) - 1)) ->
		resting = resting & ~(1 << _pid);
		f = floor
	}
tail: /* a. However the search goes, it has seen slot n missing, and then reads the header of n-1. */
	if
	MISSING(0) MISSING(1) MISSING(2) MISSING(3) MISSING(4) MISSING(5)
	CRASH
	fi;
header:
	if
	:: atomic { n == 0 || (n > f && slot[n-1] != 0) ->
		h = (n > 0 -> slot[n-1] : 0); n = 0;
		if
		:: goto verify /* a2 */
		:: goto announce /* a2 as well, but if d does it again, it is enough to do it there */
		fi
	   }
	:: atomic { n > 0 && (n == f || slot[n-1] == 0) -> ODD_TAIL(f) }
	CRASH
	fi;
verify: /* a2 and d: read the checkpoint, */
	if
	:: atomic { checkpoint == 0 && f == 0 -> goto replay }
	:: atomic { checkpoint == 0 && f > 0 -> REFUSE; LEAVE } /* unreachable, by invariant F */
	:: atomic { checkpoint > 0 && LEN(h) == f -> ODD(NONE) } /* there was no record yet */
	:: atomic { checkpoint > 0 && LEN(h) > f -> n = checkpoint; hi = LEN(h) }
	CRASH
	fi;
locate: /* search the record of its size in [f, hi), */
	if
	:: atomic { hi - f > 1 ->
		i = f + (hi - f) / 2;
		if
		:: slot[i] == 0 -> ODD(i)
		:: slot[i] != 0 && SIZE(slot[i]) < n -> f = i
		:: slot[i] != 0 && SIZE(slot[i]) >= n -> hi = i
		fi;
		goto locate
	   }
	:: atomic { hi - f == 1 ->
		if
		:: slot[f] == 0 || SIZE(slot[f]) + 1 != n -> ODD(f)
		:: else -> at = slot[f]; f++; hi = 0; n = 0
		fi
	   }
	CRASH
	fi;
replay: /* and read the later ones. */
	if
	:: atomic { f < LEN(h) ->
		if
		:: slot[f] == 0 -> ODD(f)
		:: slot[f] != 0 && PREV(slot[f]) != at -> ODD(MISFIT)
		:: else -> at = slot[f]; f++
		fi;
		goto replay
	   }
	:: atomic { f == LEN(h) && at != h -> ODD(SLOT(h)) }
	:: atomic { f == LEN(h) && at == h -> /* e, gate: every witness answers, which refuses most */
		if
		:: witness > SIZE(h) + 1 -> ODD(NONE)
		:: else
		fi;
		f = 0; at = 0; verified = 1;
		if
		:: w != 0 -> verified = 0; sign(h); goto lead
		:: else
		fi
	   }
	CRASH
	fi;

announce: /* b: PUT slot n LEADER, fresh writer. */
	atomic {
		if
		:: asked == TAKEOVERS -> LEAVE
		:: else
		fi;
		asked++; f = 0;
#ifdef MUTANT_SAME_WRITER
		w = _pid + 1;
#else
		w = asked;
#endif
		put = AFTER(h, w, LEADER); goto putting
	}

lead: /* f: section 3. One commit in flight: no next before this one's answer is definite. */
	if
	:: atomic { LEN(h) < SLOTS ->
		put = AFTER(h, w, BATCH);
#ifdef MUTANT_SIGN_FIRST
		sign(put);
#endif
		goto putting
	   }
	:: atomic { LEN(h) < SLOTS -> put = AFTER(h, w, RELEASED); goto putting } /* 3.8 */
	ODDITIES
	CRASH
	fi;
putting: /* 3.2. No definite answer: again, whether the PUT was not applied, or was, or will be. */
	if
	:: atomic { slot[SLOT(put)] == 0 -> create(put); COMMITTED }
#ifdef CONTROL_RETRY_IS_DEPOSED
	:: atomic { slot[SLOT(put)] != 0 -> LEAVE }
#else
	:: slot[SLOT(put)] != 0
#endif
	DELAY
#ifdef MUTANT_404_IS_FAILURE
	:: atomic { KIND(put) == BATCH && slot[SLOT(put)] == 0 -> put = put | OTHER; goto putting }
#endif
#ifdef MUTANT_TWO_IN_FLIGHT
	:: atomic { KIND(put) == BATCH && LEN(put) < SLOTS -> late[0] = AFTER(put, w, BATCH); late[1] = 0; goto putting }
#endif
	ODDITIES
	CRASH
	fi;
taken: /* ErrPrecondition: GET slot n. Ours, collected meanwhile, or foreign. */
	if
	:: atomic { slot[SLOT(put)] != 0 && OURS(slot[SLOT(put)]) -> COMMITTED }
	:: atomic { slot[SLOT(put)] == 0 -> goto putting }
	:: atomic { slot[SLOT(put)] != 0 && !OURS(slot[SLOT(put)]) -> LEAVE }
	CRASH
	fi;

recheck: /* c: re-read floor. */
	if
	:: atomic { GHOST -> LEAVE }
	:: atomic { !GHOST ->
		if
		:: verified -> verified = 0; sign(h); goto lead
		:: else -> f = floor; goto verify
		fi
	   }
	CRASH
	fi;

own: /* 4.2, 1: GET slot s. */
	if
	:: atomic { n < SLOTS && slot[n] != 0 && WRITER(slot[n]) == w -> n++; goto own }
	:: atomic { n < SLOTS && slot[n] != 0 && WRITER(slot[n]) != w -> LEAVE }
	:: n >= SLOTS || slot[n] == 0
	CRASH
	fi;
floors: /* 4.2, 2 and 3: re-read floor. */
	if
	:: atomic { OVERTAKEN || (COLLECTED && w == 0) -> LEAVE }
	:: atomic { !OVERTAKEN && COLLECTED && w != 0 -> odd = 0; n = 0; f = floor; goto verify } /* restart d */
	:: atomic { !OVERTAKEN && !COLLECTED -> REFUSE; LEAVE } /* 4: unreachable in a healthy store */
	CRASH
	fi
}

#else
/*
 * The coarse grain, for more replicas. It can do all that the fine grain can do, and more:
 *  - what a candidate reads is one step: it takes any record there is for the newest, as if it had seen
 *    the next slot missing before that was written; verification never finds anything;
 *  - c comes together with the answer to b, when the floor is lowest, and leading with c;
 *  - an answer that ends the leadership is a crash, and a GET that finds the slot empty is a retry;
 *  - the refusal rule is one step. A checkpoint that is too large stays so, and the floor only grows: if
 *    the rule refuses, then also when it is evaluated at once, where it last read. A slot that is
 *    missing or does not fit is below the floor, by newerAreKept, and then rule 3 does not refuse.
 */
#define LEAVE d_step { resting = resting | (1 << _pid); w = 0; h = 0; put = 0 }; goto standby
#define CRASH :: atomic { LEAVE }
#define NEWEST(k) :: atomic { GO && k + 1 < SLOTS && slot[k] != 0 && !VAIN(AFTER(slot[k], 1, LEADER)) -> h = slot[k]; ANNOUNCE }
#define GO (asked < TAKEOVERS && !(resting & ((1 << _pid) - 1)))
#define ANNOUNCE d_step { resting = resting & ~(1 << _pid); asked++; w = asked; put = AFTER(h, w, LEADER) }; goto putting
#define COMMITTED h = put; put = 0; \
	if \
	:: KIND(h) == LEADER && floor > SLOT(h) -> LEAVE \
	:: KIND(h) == LEADER && floor <= SLOT(h) -> sign(h); goto lead \
	:: KIND(h) == RELEASED -> LEAVE \
	:: else -> ack(h); sign(h); goto lead \
	fi
#define ODDITIES :: atomic { checkpoint > SIZE(h) + 1 || witness > SIZE(h) + 1 -> d_step { \
		i = LEN(h); \
		do \
		:: i < SLOTS && slot[i] != 0 && WRITER(slot[i]) == w -> i++ \
		:: else -> break \
		od; \
		healthyStoreIsNotRefused = ((i < SLOTS && slot[i] != 0) || floor >= i); \
		assert(healthyStoreIsNotRefused); i = 0 }; LEAVE }

active [REPLICAS] proctype replica() {
	byte w;		/* writer of this leadership attempt */
	int h;		/* state: the newest record this process has read, or committed */
	int put;	/* the record it is putting */
standby: /* a, a2, b */
	if
	:: atomic { GO && slot[0] == 0 -> ANNOUNCE }
	NEWEST(0) NEWEST(1) NEWEST(2) NEWEST(3) NEWEST(4)
	fi;
lead: /* f */
	if
	:: atomic { LEN(h) < SLOTS -> put = AFTER(h, w, BATCH); goto putting }
	:: atomic { LEN(h) < SLOTS -> put = AFTER(h, w, RELEASED); goto putting }
	ODDITIES
	CRASH
	fi;
putting: /* b, c and 3.2 */
	if
	:: atomic { slot[SLOT(put)] == 0 -> create(put); COMMITTED }
	:: atomic { slot[SLOT(put)] == put -> COMMITTED }
	DELAY
	ODDITIES
	CRASH
	fi
}
#endif

/* Section 3.6: GET, and CAS what a process signed that leads, or led when it sent this. Its size has been
 * signed, as all up to the largest have; and the CAS lands only where the version is the one that was
 * read, so that of its conditions there remains: ours is larger. */
#ifdef MUTANT_UNCONDITIONAL_CHECKPOINT
#define LARGER(size) (checkpoint != size + 1)
#else
#define LARGER(size) (checkpoint < size + 1)
#endif
#define CHECKPOINT(size) :: atomic { size < witness && LARGER(size) -> d_step { \
		checkpointGoesForward = (checkpoint < size + 1); assert(checkpointGoesForward); \
		checkpoint = size + 1; check() } }

/* Section 3.7 (a): CAS floor to an F that exists, is committed, and is no later than what the bucket's
 * checkpoint covers, likewise. Who sent it may have read an older checkpoint, which leaves it fewer F. */
#ifdef MUTANT_FLOOR_AHEAD
#define COVERED(F) (F <= LEN(log))
#else
#define COVERED(F) (F < LEN(log) && SIZE(UPTO(log, F + 1)) < checkpoint)
#endif
#define FLOOR(F) :: atomic { F < SLOTS && floor < F && COVERED(F) -> d_step { floor = F; check() } }

/* Section 3.7 (b, c): delete the BATCH slots below F, one by one, at any time after that. */
#ifdef MUTANT_DELETE_FIRST
#define SWEPT(k) (k < floor || (k + 1 < LEN(log) && SIZE(UPTO(log, k + 2)) < checkpoint))
#else
#define SWEPT(k) (k < floor)
#endif
#define DELETE(k) :: atomic { k < SLOTS && SWEPT(k) && slot[k] != 0 && !KEPT(k) -> d_step { slot[k] = 0; check() } }

active proctype store() {
	do
	:: atomic { late[0] != 0 && slot[SLOT(late[0])] == 0 -> create(late[0]) }
	:: atomic { late[1] != 0 && slot[SLOT(late[1])] == 0 -> create(late[1]) }
	CHECKPOINT(0) CHECKPOINT(1) CHECKPOINT(2) CHECKPOINT(3) CHECKPOINT(4) CHECKPOINT(5)
	FLOOR(1) FLOOR(2) FLOOR(3) FLOOR(4) FLOOR(5)
	DELETE(0) DELETE(1) DELETE(2) DELETE(3) DELETE(4) DELETE(5)
	od
}
