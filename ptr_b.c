
struct B { long x, y; }; struct C { long y, x, z; };
struct A { struct C *p; unsigned long long *counts; };
static struct C *list; 
long f(struct A *q) { return q->p->x + list->y + q->counts[1]; }
