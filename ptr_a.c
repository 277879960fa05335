
struct B { long x, y; }; struct C { long y, x, z; };
struct A { struct B *p; unsigned int *counts; };
static struct B *list; 
long f(struct A *q) { return q->p->x + list->y + q->counts[1]; }
